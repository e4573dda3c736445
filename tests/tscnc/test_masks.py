import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tscnc_deploy.errors import InputError
from tscnc_deploy.tscnc import Masks, cubic_sparsity, magnitude, n_of_m_mask, rank_globally, taylor


def test_two_of_four_keeps_the_two_largest_along_input_channels():
    weight = torch.tensor([[0.1, 0.9, 0.3, 0.5]])
    assert n_of_m_mask(weight).tolist() == [[False, True, False, True]]


def test_two_of_four_keeps_the_earlier_of_equal_scores():
    assert n_of_m_mask(torch.ones(1, 4)).tolist() == [[True, True, False, False]]


def test_two_of_four_groups_input_channels_of_a_convolution():
    scores = torch.zeros(1, 4, 1, 2)
    scores[0, :, 0, 0] = torch.tensor([4.0, 3, 2, 1])
    scores[0, :, 0, 1] = torch.tensor([1.0, 2, 3, 4])
    mask = n_of_m_mask(scores)
    assert mask[0, :, 0, 0].tolist() == [True, True, False, False]
    assert mask[0, :, 0, 1].tolist() == [False, False, True, True]


def test_ranking_is_global():
    scores = {"a": torch.tensor([[1.0, 2, 3, 4]]), "b": torch.tensor([[5.0, 6, 7, 8]])}
    masks = rank_globally(scores, 0.5)
    assert masks["a"].tolist() == [[False, False, False, True]]
    assert masks["b"].tolist() == [[False, True, True, True]]


def test_every_filter_keeps_its_most_salient_weight():
    scores = {"a": torch.tensor([[1.0, 2], [10, 11]]), "b": torch.tensor([[20.0, 21]])}
    masks = rank_globally(scores, 0.5)
    assert masks["a"].tolist() == [[False, True], [False, True]]
    assert masks["b"].tolist() == [[False, True]]


def test_floor_keeps_a_share_of_every_layer():
    scores = {"weak": torch.arange(1.0, 11).reshape(1, 10), "strong": torch.full((1, 10), 100.0)}
    masks = rank_globally(scores, 0.5, floor=0.3)
    assert int(masks["weak"].sum()) == 3
    assert int(masks["strong"].sum()) == 7


def test_a_floor_that_keeps_too_much_is_refused():
    with pytest.raises(InputError, match=r"lower the floor or the sparsity"):
        rank_globally({"a": torch.rand(10, 2)}, 0.9)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="saliency of a is not finite"):
        rank_globally({"a": torch.tensor([[1.0, float("nan")]])}, 0.5)


def test_costs_move_zeros_from_cheap_to_dear_layers_only_as_far_as_needed():
    scores = {"dear": torch.tensor([[9.0, 8, 7, 6]]), "cheap": torch.tensor([[5.0, 4, 3, 2]])}
    # Half of all costs is 22: one dear weight and three cheap ones cost 13, two and two would cost 22.
    masks = rank_globally(scores, 0.5, costs={"dear": 10, "cheap": 1})
    assert masks["dear"].tolist() == [[True, True, False, False]]
    assert masks["cheap"].tolist() == [[True, True, False, False]]


def test_costs_that_are_kept_anyway_change_nothing():
    scores = {"dear": torch.tensor([[1.0, 2, 3, 4]]), "cheap": torch.tensor([[5.0, 6, 7, 8]])}
    masks = rank_globally(scores, 0.5, costs={"dear": 10, "cheap": 1})
    assert masks["dear"].tolist() == [[False, False, False, True]]
    assert masks["cheap"].tolist() == [[False, True, True, True]]


def test_floors_hold_whatever_they_cost():
    scores = {"dear": torch.arange(1.0, 11).reshape(1, 10), "cheap": torch.ones(1, 90)}
    masks = rank_globally(scores, 0.9, floor=0.05, costs={"dear": 1e6, "cheap": 1})
    assert masks["dear"].sum() == 1
    assert masks["cheap"].sum() == 9


@pytest.mark.parametrize("costs", [{"a": 1.0}, {"a": 1.0, "b": 0.0}, {"a": 1.0, "b": float("inf")}])
def test_a_layer_without_a_cost_is_refused(costs):
    with pytest.raises(ValueError, match="the cost of a weight of b is"):
        rank_globally({"a": torch.rand(1, 8), "b": torch.rand(1, 8)}, 0.5, costs=costs)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    sparsity=st.floats(0.05, 0.85),
    shapes=st.lists(st.tuples(st.integers(1, 4), st.sampled_from([8, 12, 20])), min_size=1, max_size=4),
    prices=st.lists(st.sampled_from([1.0, 2.0, 16.0, 1e-7, 1024.0]), min_size=4, max_size=4),
    levels=st.sampled_from([1, 2, 1000]),
    powers=st.sampled_from([1, 8]),
)
def test_a_budget_keeps_the_zeros_exact_and_the_cost_within_its_share(seed, sparsity, shapes, prices, levels, powers):
    generator = torch.Generator().manual_seed(seed)
    scores = {
        str(i): (torch.randint(0, levels, s, generator=generator) / levels) ** powers for i, s in enumerate(shapes)
    }
    costs = {name: prices[int(name)] for name in scores}
    total = sum(score.numel() for score in scores.values())
    masks = rank_globally(scores, sparsity, costs=costs)
    counts = {name: int(mask.sum()) for name, mask in masks.items()}
    assert total - sum(counts.values()) == round(sparsity * total)
    # One weight a filter stays whatever it costs; the rest are the cheapest where nothing else is within the share.
    least, missing = 0.0, sum(counts.values())
    for name in sorted(scores, key=costs.get):
        forced = len(scores[name])
        least, missing = least + costs[name] * forced, missing - forced
    for name in sorted(scores, key=costs.get):
        more = min(missing, scores[name].numel() - len(scores[name]))
        least, missing = least + costs[name] * more, missing - more
    allowed = (1 - sparsity) * sum(costs[name] * score.numel() for name, score in scores.items())
    assert sum(costs[name] * count for name, count in counts.items()) <= max(allowed, least) * (1 + 1e-9)


def test_a_budget_keeps_the_greatest_total_score_of_all_masks_that_cost_no_more():
    generator = torch.Generator().manual_seed(0)
    scores = {"a": torch.rand(1, 7, generator=generator), "b": torch.rand(1, 6, generator=generator) / 100}
    costs = {"a": 7.0, "b": 2.0}
    masks = rank_globally(scores, 0.5, costs=costs)
    kept = {name: int(mask.sum()) for name, mask in masks.items()}
    spent = sum(costs[name] * count for name, count in kept.items())

    def total(a, b):
        return float(scores["a"].flatten().topk(a).values.sum() + scores["b"].flatten().topk(b).values.sum())

    others = [total(a, 7 - a) for a in range(1, 7) if costs["a"] * a + costs["b"] * (7 - a) <= spent]
    assert total(**kept) == max(others)
    assert spent <= 0.5 * (7 * 7 + 6 * 2)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    sparsity=st.floats(0, 0.8),
    shapes=st.lists(st.tuples(st.integers(1, 4), st.sampled_from([8, 12, 20])), min_size=1, max_size=4),
    levels=st.sampled_from([2, 1000]),
)
def test_sparsity_is_met_to_the_weight_whatever_the_ties(seed, sparsity, shapes, levels):
    generator = torch.Generator().manual_seed(seed)
    scores = {str(i): torch.randint(0, levels, s, generator=generator).float() for i, s in enumerate(shapes)}
    total = sum(score.numel() for score in scores.values())
    masks = Masks(rank_globally(scores, sparsity))
    assert masks.total - masks.nonzero == round(sparsity * total)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), sparsity=st.floats(0.5, 0.8))
def test_two_of_four_ranking_meets_pattern_and_sparsity(seed, sparsity):
    generator = torch.Generator().manual_seed(seed)
    scores = {"a": torch.rand(4, 8, 3, 3, generator=generator), "b": torch.rand(3, 16, generator=generator)}
    masks = rank_globally(scores, sparsity, pattern="2:4")
    for mask in masks.values():
        assert int(mask.movedim(1, -1).unflatten(-1, (-1, 4)).sum(-1).max()) <= 2
    counted = Masks(masks)
    assert counted.total - counted.nonzero == round(sparsity * counted.total)


def test_floors_and_filters_hold_under_two_of_four():
    generator = torch.Generator().manual_seed(0)
    scores = {
        "weak": torch.rand(4, 8, generator=generator) / 1000,
        "strong": torch.rand(8, 8, 3, 3, generator=generator),
    }
    masks = rank_globally(scores, 0.7, floor=0.25, pattern="2:4")
    assert int(masks["weak"].sum()) == 8
    assert masks["weak"].any(dim=1).all()


def test_equal_scores_leave_every_filter_alive_under_two_of_four():
    masks = rank_globally({"a": torch.ones(6, 8)}, 0.85, pattern="2:4")
    assert masks["a"].any(dim=1).all()


def test_stems_that_cannot_be_grouped_stay_unstructured():
    masks = rank_globally({"stem": torch.rand(8, 3, 3, 3), "body": torch.rand(8, 8, 3, 3)}, 0.5, pattern="2:4")
    assert int(masks["stem"].sum()) > 0


def test_masked_weights_receive_gradients_and_come_back_unchanged():
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 5.0]]))
    masks = Masks({"weight": torch.tensor([[True, False]])})
    with masks.applied(model) as dense:
        assert model.weight.tolist() == [[3.0, 0.0]]
        assert dense["weight"].tolist() == [[3.0, 5.0]]
        model(torch.tensor([[1.0, 2.0]])).sum().backward()
    assert model.weight.tolist() == [[3.0, 5.0]]
    assert model.weight.grad.tolist() == [[1.0, 2.0]]
    masks.mask_gradients_(model)
    assert model.weight.grad.tolist() == [[1.0, 0.0]]


def test_masks_of_a_pruned_model():
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0, 1.0], [2.0, 0.0]]))
    masks = Masks.of(model)
    assert (masks.nonzero, masks.total, masks.sparsity) == (2, 4, 0.5)


def test_taylor_is_weight_times_gradient_averaged_over_batches():
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, -3.0]]))
    batches = [torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, -1.0]])]
    scores = taylor(model, [lambda x=x: model(x).sum() for x in batches])
    assert scores["weight"].tolist() == [[4.0, 3.0]]


def test_taylor_judges_masked_weights_by_the_value_they_would_come_back_with():
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, 5.0]]))
    masks = Masks({"weight": torch.tensor([[True, False]])})
    with masks.applied(model) as dense:
        scores = taylor(model, [lambda: model(torch.tensor([[1.0, 1.0]])).sum()], dense)
    assert scores["weight"].tolist() == [[2.0, 5.0]]


def test_magnitude():
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, -3.0]]))
    assert magnitude(model)["weight"].tolist() == [[2.0, 3.0]]


@pytest.mark.parametrize(("progress", "expected"), [(0, 0), (0.5, 0.7), (1, 0.8), (2, 0.8)])
def test_cubic_schedule(progress, expected):
    assert cubic_sparsity(progress, 0.8) == pytest.approx(expected)
