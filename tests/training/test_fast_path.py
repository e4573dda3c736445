"""What makes training fast changes nothing but rounding, and on a GPU waits for nothing."""

import copy
import shutil

import pytest
import torch
from torch import nn

from tscnc_deploy.models.folded import FoldedCopy
from tscnc_deploy.training.criteria import Sparsifier
from tscnc_deploy.training.loop import Phase, Training
from tscnc_deploy.training.optim import WeightAverage
from tscnc_deploy.training.trades import Adversary, trades_loss

PHASE = Phase("train", 1, 2e-3, "constant")


def batch(digits):
    return digits.train.batch(torch.arange(32))


def warmed_up(model, images):
    """Batch-norm statistics that are not those of a fresh network."""
    for _ in range(5):
        model(images)
    return model


@pytest.mark.parametrize(("norm", "epsilon"), [("Linf", 0.1), ("L2", 0.5)])
def test_an_attack_on_the_copy_finds_the_same_images(digits, small_net, norm, epsilon):
    images, labels = batch(digits)
    warmed_up(small_net, images)
    adversary = Adversary(epsilon, 6.0, 3, 0.5, norm)

    def attacked(network):
        def loss(logits):
            return nn.functional.cross_entropy(logits, labels, reduction="sum")

        return adversary.perturb(network, images, loss, torch.Generator().manual_seed(0))

    plain, fast = attacked(small_net), attacked(FoldedCopy(small_net).refreshed())
    assert (plain - images).abs().max() > 0.04
    # A sign may turn where a gradient is zero but for rounding.
    assert ((plain - fast).abs() > 1e-5).float().mean() < 0.001


def test_the_loss_and_its_gradients_are_the_same(digits, small_net):
    images, labels = batch(digits)
    warmed_up(small_net, images)
    found = []
    for fast in (False, True):
        model = copy.deepcopy(small_net)
        # The plain path: the network itself, put into eval mode for the attack.
        attacked = FoldedCopy(model).refreshed if fast else copy.deepcopy(model).eval
        loss = trades_loss(
            model, attacked, images, labels, Adversary(0.1, 6.0, 3, 0.5), torch.Generator().manual_seed(0)
        )
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.parameters()), *model.buffers()])
    for plain, fast in zip(*found, strict=True):
        assert torch.allclose(plain, fast, rtol=1e-3, atol=1e-4)


def test_the_average_begins_at_the_first_values_and_follows():
    model = nn.BatchNorm2d(1)
    average = WeightAverage(model, 0.75)
    for value in (4.0, 8.0, 0.0):
        with torch.no_grad():
            model.weight.fill_(value)
            model.running_mean.fill_(-value)
            model.num_batches_tracked.fill_(int(value))
        average.update_parameters(model)
    # 4, then 3/4 * 4 + 1/4 * 8 = 5, then 3/4 * 5.
    assert (average.module.weight.item(), average.module.running_mean.item()) == (3.75, -3.75)
    assert average.module.num_batches_tracked.item() == 0
    fresh = WeightAverage(model, 0.75)
    fresh.load_state_dict(average.state_dict())
    fresh.update_parameters(model)
    assert fresh.module.weight.item() == 2.8125


def trained(model, digits, recipe, device, tmp_path, on_step=lambda *_: None, **settings):
    train = recipe.train.model_copy(update=settings)
    recipe = recipe.model_copy(update={"train": train, "constrain": recipe.constrain.model_copy(update={"weight": 0})})
    tmp_path.mkdir(exist_ok=True)
    training = Training(model, digits, recipe, PHASE, torch.device(device), tmp_path / "c.pt")
    return training.run(Sparsifier(), on_step)[0]


def test_bf16_on_a_cpu_trains(digits, recipe, small_net, tmp_path):
    plain = trained(copy.deepcopy(small_net), digits, recipe, "cpu", tmp_path / "plain", precision="fp32")
    fast = trained(small_net, digits, recipe, "cpu", tmp_path / "bf16", precision="bf16")
    assert fast["loss"] == pytest.approx(plain["loss"], rel=0.05)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs g++")
def test_a_compiled_training_ends_like_the_plain_one(digits, recipe, small_net, tmp_path):
    plain = trained(copy.deepcopy(small_net), digits, recipe, "cpu", tmp_path / "plain")
    compiled = trained(small_net, digits, recipe, "cpu", tmp_path / "compiled", compile=True)
    assert compiled["loss"] == pytest.approx(plain["loss"], rel=0.01)


@pytest.mark.gpu
@pytest.mark.parametrize("compiles", [False, True])
def test_on_a_gpu_no_step_waits_for_the_one_before(digits, recipe, small_net, tmp_path, compiles):
    def on_step(done, steps, _figures):
        # The first steps compile, the last one is followed by the figures of the epoch.
        torch.cuda.set_sync_debug_mode("error" if 3 <= done < steps else "default")

    try:
        entry = trained(small_net, digits, recipe, "cuda", tmp_path, on_step, compile=compiles)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert 0 < entry["loss"] < 10
