import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tscnc_deploy.errors import InputError
from tscnc_deploy.tscnc import Constraint, Masks, check_budget, condition, rank_globally


def test_filters_go_by_their_mean_score_over_all_layers_and_classes_by_single_weights():
    scores = {
        "wide": torch.tensor([[[[3.0]], [[0.0]]], [[[2.0]], [[2.0]]], [[[9.0]], [[9.0]]]]),
        "narrow": torch.tensor([[[[1.8]]], [[[1.9]]], [[[0.1]]]]),
        "classes": torch.tensor([[5.0, 0.2], [0.3, 6.0]]),
    }
    # 9 of 13 weights stay: those of 9, 6, 5 and 1.9 in any case, then the filter of mean 2, then 1.8, then 0.3.
    masks = rank_globally(scores, 4 / 13, pattern="filters")
    assert masks["wide"].flatten(1).tolist() == [[False, False], [True, True], [True, True]]
    assert masks["narrow"].flatten().tolist() == [True, True, False]
    assert masks["classes"].tolist() == [[True, False], [True, True]]


def test_a_filter_that_no_longer_fits_is_passed_over():
    scores = {"wide": torch.tensor([9.0, 5.0]).reshape(2, 1, 1, 1).expand(2, 4, 1, 1), "classes": torch.ones(1, 4)}
    masks = rank_globally(scores, 0.5, pattern="filters")
    assert masks["wide"].sum() == 4
    assert masks["classes"].sum() == 2


def test_what_is_left_over_where_nothing_fits_goes_too():
    scores = {"wide": torch.rand(4, 4, 1, 1), "classes": torch.ones(1, 2)}
    masks = Masks(rank_globally(scores, 0.5, pattern="filters"))
    # 9 of 18 weights may stay, and filters of 4 and both classes' weights make 6 or 10.
    assert masks.nonzero == 6


def test_a_floor_keeps_a_share_of_every_convolutions_filters():
    scores = {"weak": torch.arange(1.0, 11).reshape(10, 1, 1, 1), "strong": torch.full((10, 1, 1, 1), 100.0)}
    masks = rank_globally(scores, 0.5, floor=0.21, pattern="filters")
    assert masks["weak"].flatten().tolist() == [False] * 7 + [True] * 3
    assert int(masks["strong"].sum()) == 7


def test_floors_of_filters_that_keep_too_much_are_refused():
    shapes = {"a": (2, 50, 1, 1), "b": (10, 10)}
    check_budget(shapes, 0.9)
    with pytest.raises(InputError, match=r"keeps 20 of 200 weights, but .* one filter per convolution keep 60; lower"):
        check_budget(shapes, 0.9, pattern="filters")


def test_filters_beside_costs_are_refused():
    with pytest.raises(ValueError, match="do not pass costs"):
        rank_globally({"a": torch.rand(4, 4, 1, 1)}, 0.5, pattern="filters", costs={"a": 1.0})


SHAPES = st.lists(
    st.one_of(
        st.tuples(st.integers(2, 12), st.sampled_from([1, 4, 8]), st.sampled_from([1, 3]), st.just(3)),
        st.tuples(st.integers(2, 5), st.sampled_from([16, 40])),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    sparsity=st.floats(0, 0.99),
    floor=st.sampled_from([0.0, 0.01, 0.2]),
    shapes=SHAPES,
    levels=st.sampled_from([1, 2, 1000]),
)
def test_rows_are_whole_floors_hold_and_no_more_is_removed_than_must_be(seed, sparsity, floor, shapes, levels):
    generator = torch.Generator().manual_seed(seed)
    scores = {str(i): torch.randint(0, levels, s, generator=generator).float() for i, s in enumerate(shapes)}
    try:
        masks = rank_globally(scores, sparsity, floor=floor, pattern="filters")
    except InputError as error:
        assert "lower the floor or the sparsity" in str(error)
        return
    counted = Masks(masks)
    spare = counted.total - round(sparsity * counted.total) - counted.nonzero
    assert spare >= 0
    for mask in masks.values():
        rows = mask.flatten(1)
        assert rows.sum() >= floor * rows.numel()
        if mask.ndim == 4:
            assert (rows.all(dim=1) == rows.any(dim=1)).all()
            assert rows.any()
            smallest = rows.shape[1]
        else:
            assert rows.any(dim=1).all()
            smallest = 1
        # Whatever was removed is larger than the room that was left.
        assert rows.all() or spare < smallest


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    sparsities=st.lists(st.floats(0, 0.8), min_size=2, max_size=4),
    pattern=st.sampled_from(["unstructured", "filters", "2:4"]),
)
def test_what_is_not_among_those_that_may_stay_never_comes_back(seed, sparsities, pattern):
    generator = torch.Generator().manual_seed(seed)
    among = None
    for sparsity in sorted(s / 4 + 0.5 if pattern == "2:4" else s for s in sparsities):
        scores = {
            "convolution": torch.randint(0, 3, (8, 4, 1, 3), generator=generator).float(),
            "stem": torch.randint(0, 3, (8, 4, 1, 1), generator=generator).float(),
            "classes": torch.randint(0, 3, (4, 8), generator=generator).float(),
        }
        masks = rank_globally(scores, sparsity, pattern=pattern, floor=0.05, among=among)
        counted = Masks(masks)
        if pattern != "filters":
            assert counted.total - counted.nonzero == round(sparsity * counted.total)
        for name, mask in masks.items():
            assert among is None or not (mask & ~among[name]).any()
        among = masks


@pytest.mark.parametrize("name", ["log-frobenius", "kaporin", "tscnc"])
def test_constraint_and_condition_number_look_at_the_rows_that_remain(name):
    generator = torch.Generator().manual_seed(0)
    rest = torch.randn(3, 2, 3, 3, generator=generator)
    weight = nn.Parameter(torch.cat([rest, torch.zeros(5, 2, 3, 3)]))
    value = Constraint(name)([weight])
    value.backward()
    assert value.item() == pytest.approx(Constraint(name)([rest]).item())
    assert torch.isfinite(weight.grad).all()
    assert not weight.grad[3:].any()
    found = condition(weight.detach())
    assert found.kappa == pytest.approx(condition(rest).kappa)
    assert (found.dead_filters, found.rank) == (5, 3)
