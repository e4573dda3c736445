import io
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tscnc_deploy.data import Split
from tscnc_deploy.devices import choose_device
from tscnc_deploy.errors import StorageError, UnavailableError
from tscnc_deploy.recipe import Train
from tscnc_deploy.seeds import derive_generator, derive_seed
from tscnc_deploy.training.checkpoint import load_checkpoint, save_checkpoint
from tscnc_deploy.training.inner import inner_attack
from tscnc_deploy.training.numerics import Numerics
from tscnc_deploy.training.optim import build_optimizer, learning_rate
from tscnc_deploy.training.trades import Adversary, trades_loss
from tscnc_deploy.training.validation import Validation, validate


def linear():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, -1, 2, 0], [0.0, 0, 0, 0]]))
    return model


def test_ascent_on_a_linear_model_reaches_the_corner_of_the_ball():
    images = torch.full((3, 1, 2, 2), 0.5)
    labels = torch.zeros(3, dtype=torch.long)
    perturbed = inner_attack(
        linear(), images, lambda z: F.cross_entropy(z, labels, reduction="sum"),
        norm="Linf", epsilon=0.1, steps=5, step_size=0.1, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    corner = torch.tensor([0.4, 0.6, 0.4]).expand(3, 3)
    assert torch.allclose(perturbed.flatten(1)[:, :3], corner)


def test_ascent_keeps_ball_range_and_mode():
    model = nn.Sequential(nn.BatchNorm2d(1), linear()).train()
    images = torch.rand(8, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    before = model[0].running_mean.clone()
    perturbed = inner_attack(
        model, images, lambda z: z[:, 0].sum(), norm="Linf", epsilon=0.3, steps=3, step_size=0.2,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert float((perturbed - images).abs().max()) <= 0.3 + 1e-6
    assert 0 <= float(perturbed.min()) <= float(perturbed.max()) <= 1
    assert model.training
    assert torch.equal(model[0].running_mean, before)


def test_trades_without_epsilon_is_cross_entropy():
    images, labels = torch.rand(4, 1, 2, 2), torch.tensor([0, 1, 0, 1])
    model = linear()
    loss = trades_loss(model, model.eval, images, labels, Adversary(0, 0, 1, 1), torch.Generator())
    assert loss.item() == pytest.approx(F.cross_entropy(model(images), labels).item())


def test_trades_adds_beta_times_the_divergence():
    images, labels = torch.rand(4, 1, 2, 2, generator=torch.Generator().manual_seed(2)), torch.tensor([0, 1, 0, 1])
    losses = [
        trades_loss(
            linear(), linear, images, labels, Adversary(0.2, beta, 3, 0.5), torch.Generator().manual_seed(0)
        ).item()
        for beta in (0.0, 1.0, 6.0)
    ]
    assert losses[1] > losses[0]
    assert (losses[2] - losses[0]) == pytest.approx(6 * (losses[1] - losses[0]), rel=1e-4)


@pytest.mark.parametrize(
    ("step", "schedule", "expected"),
    [(0, "constant", 1.0), (0, "cosine", 1.0), (50, "cosine", 0.5), (0, "one-cycle", 0.04), (20, "one-cycle", 1.0)],
)
def test_learning_rate(step, schedule, expected):
    assert learning_rate(step, 100, peak=1.0, schedule=schedule, warmup=0.2) == pytest.approx(expected)


def test_norms_and_biases_are_not_decayed():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    decayed, plain = build_optimizer(model, Train(weight_decay=0.1), 0.1).param_groups
    assert (len(decayed["params"]), decayed["weight_decay"]) == (1, 0.1)
    assert (len(plain["params"]), plain["weight_decay"]) == (3, 0.0)


def test_seeds_differ_by_purpose_and_repeat():
    assert derive_seed(0, "train", 1) == derive_seed(0, "train", 1)
    assert len({derive_seed(0, "train", 1), derive_seed(0, "train", 2), derive_seed(1, "train", 1)}) == 3
    first, second = (torch.rand(3, generator=derive_generator(5, "x")) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(("norm", "epsilon", "length"), [("Linf", 0.2, 4.0), ("L2", 0.36, 6.0**0.5)])
def test_validation_of_a_linear_model_counts_what_is_out_of_reach(norm, epsilon, length):
    shades = torch.linspace(0.3, 0.6, 20)
    images = shades[:, None, None, None].expand(20, 1, 2, 2)
    # The lead of class 0 is x0 - x1 + 2 x2, twice the shade, and falls by the dual norm of its weight.
    expected = (2 * shades > length * epsilon).float().mean().item()
    result = validate(
        linear(), linear(), Split(images, torch.zeros(20, dtype=torch.int64)), norm=norm, epsilon=epsilon, steps=10,
        batch_size=7, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert result.clean == 1.0
    assert 0 < expected < 1
    assert result.robust == pytest.approx(expected)


def test_validation_prefers_robust_accuracy_then_a_low_loss():
    assert Validation(0.9, 0.5, 1.0).better_than(None)
    assert Validation(0.8, 0.6, 2.0).better_than(Validation(0.9, 0.5, 1.0))
    assert Validation(0.8, 0.5, 0.9).better_than(Validation(0.9, 0.5, 1.0))
    assert not Validation(0.9, 0.5, 1.0).better_than(Validation(0.9, 0.5, 1.0))


def test_checkpoints_hold_plain_values_and_tensors(tmp_path):
    state = {"epoch": 3, "weights": torch.arange(3.0), "best": None, "history": [{"kappa": {"a": math.pi}}]}
    save_checkpoint(tmp_path / "c.pt", state)
    loaded = load_checkpoint(tmp_path / "c.pt")
    assert loaded["epoch"] == 3
    assert loaded["weights"].tolist() == [0, 1, 2]
    assert loaded["history"] == [{"kappa": {"a": math.pi}}]
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_a_checkpoint_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(StorageError, match="cannot write the checkpoint"):
        save_checkpoint(tmp_path / "missing" / "c.pt", {"epoch": 1})


class Interrupted(io.BytesIO):
    """A file during whose second write Ctrl-C is pressed."""

    def write(self, data):
        if self.tell():
            raise KeyboardInterrupt
        return super().write(data)


def test_an_interrupt_while_a_checkpoint_is_written_is_no_full_disk(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "c.pt", {"epoch": 1})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "open", lambda path, mode: Interrupted())
        save_checkpoint(tmp_path / "c.pt", {"epoch": 2, "weights": torch.zeros(1000)})
    assert load_checkpoint(tmp_path / "c.pt") == {"epoch": 1}


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_missing_gpu_is_exit_status_3():
    with pytest.raises(UnavailableError, match="torch finds no GPU") as caught:
        choose_device("cuda")
    assert caught.value.exit_status == 3


@pytest.mark.parametrize(
    ("settings", "side", "bf16", "memory_format"),
    [
        ({}, 8, False, torch.contiguous_format),
        ({}, 32, False, torch.channels_last),
        ({"precision": "bf16"}, 8, True, torch.channels_last),
        ({"precision": "bf16", "channels_last": False}, 8, True, torch.contiguous_format),
    ],
)
def test_auto_on_a_cpu(settings, side, bf16, memory_format):
    numerics = Numerics.choose(Train(**settings), torch.device("cpu"), (1, side, side))
    assert (numerics.bf16, numerics.memory_format) == (bf16, memory_format)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_auto_is_bf16_and_channels_last_on_a_gpu():
    numerics = Numerics.choose(Train(), torch.device("cuda"), (1, 8, 8))
    assert (numerics.bf16, numerics.memory_format) == (torch.cuda.is_bf16_supported(), torch.channels_last)
