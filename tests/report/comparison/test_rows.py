import pytest
from scipy.stats import ttest_1samp

from tests.report.comparison.results import result
from tscnc_deploy.errors import InputError
from tscnc_deploy.report.comparison import Mean, compare_runs


def test_runs_of_equal_settings_are_one_row_in_the_order_of_seeds():
    comparison = compare_runs([result("a", 1), result("b", 0, constraint="none"), result("a", 0)])
    assert [row.label for row in comparison.rows] == ["a", "b"]
    assert [run.seed for run in comparison.rows[0].results] == [0, 1]
    assert comparison.rows[1].settings == {"constrain.constraint": "none"}
    assert "constrain.constraint" not in comparison.settings
    assert comparison.settings["prune.sparsity"] == 0.95


def test_rows_of_one_name_are_told_apart_by_what_differs():
    comparison = compare_runs([result("a", 0), result("a", 0, constraint="none")])
    assert [row.label for row in comparison.rows] == ["a: constraint tscnc", "a: constraint none"]


def test_the_loss_is_paired_by_seed():
    runs = [result("a", 0, robust=300), result("a", 1, robust=320), result("a", 2, robust=360)]
    runs += [result("b", 1, robust=310, constraint="none"), result("b", 0, robust=282, constraint="none")]
    first, second = compare_runs(runs).rows
    assert first.loss is None
    assert second.loss.seeds == 2
    assert second.loss.value == pytest.approx((18 + 10) / 2 / 360)


def test_the_interval_is_students():
    values = [0.91, 0.88, 0.93, 0.9]
    mean = Mean.of(values)
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean.low, mean.high) == pytest.approx((expected.low, expected.high))


def test_a_single_seed_has_no_interval():
    assert Mean.of([0.5]).to_json() == {"value": 0.5, "low": None, "high": None, "seeds": 1}


def test_the_same_run_twice_is_refused():
    with pytest.raises(InputError, match="runs/a-0 and runs/a-0 have the same settings and seed"):
        compare_runs([result("a", 0), result("a", 0)])


def test_nothing_to_compare_is_refused():
    with pytest.raises(InputError, match="no run to compare"):
        compare_runs([])
