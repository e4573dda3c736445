from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from tests.robustness.victims import Constant, ModuleEngine
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import CORRUPTIONS, BlackBoxVictim, corrupt, evaluate_corruptions, hoeffding_interval

# What holds nothing random.
FIXED = ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression")
IMAGES = {
    channels: torch.rand(5, channels, 9, 8, generator=torch.Generator().manual_seed(channels)) for channels in (1, 3)
}


def test_they_have_the_names_of_cifar_10_c():
    assert list(CORRUPTIONS) == [
        "gaussian_noise",
        "shot_noise",
        "impulse_noise",
        "defocus_blur",
        "glass_blur",
        "motion_blur",
        "zoom_blur",
        "snow",
        "fog",
        "brightness",
        "contrast",
        "elastic_transform",
        "pixelate",
        "jpeg_compression",
    ]
    assert {len(corruption.severities) for corruption in CORRUPTIONS.values()} == {5}


@pytest.mark.parametrize(("severity", "deviation"), [(1, 0.04), (2, 0.06), (3, 0.08), (4, 0.09), (5, 0.10)])
def test_gaussian_noise_has_the_published_deviations(severity, deviation):
    grey = torch.full((100, 1, 32, 32), 0.5)
    assert (corrupt(grey, "gaussian_noise", severity) - grey).std().item() == pytest.approx(deviation, rel=0.01)


@pytest.mark.parametrize(("severity", "added"), [(1, 0.05), (2, 0.1), (3, 0.15), (4, 0.2), (5, 0.3)])
def test_brightness_has_the_published_levels(severity, added):
    image = torch.tensor([0.6, 0.3, 0.0])[None, :, None, None]
    value = 0.6 + added
    expected = torch.tensor([value, value / 2, 0.0])[None, :, None, None]
    torch.testing.assert_close(corrupt(image, "brightness", severity), expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("shot_noise", [500, 250, 100, 75, 50]),
        ("impulse_noise", [0.01, 0.02, 0.03, 0.05, 0.07]),
        ("contrast", [0.75, 0.5, 0.4, 0.3, 0.15]),
        ("pixelate", [0.95, 0.9, 0.85, 0.75, 0.65]),
        ("jpeg_compression", [80, 65, 58, 50, 40]),
    ],
)
def test_levels_are_the_published_ones(name, expected):
    assert [level for (level,) in CORRUPTIONS[name].severities] == expected


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corrupted_image_is_one_and_does_not_depend_on_its_batch(name, channels):
    images = IMAGES[channels]
    corrupted = corrupt(images, name, 4, seed=3)
    assert corrupted.shape == images.shape
    assert corrupted.dtype == torch.float32
    assert corrupted.min() >= 0
    assert corrupted.max() <= 1
    assert not torch.equal(corrupted, images)
    alone = corrupt(images[2:4], name, 4, seed=3, indices=torch.tensor([2, 3]))
    torch.testing.assert_close(alone, corrupted[2:4], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name not in FIXED])
def test_the_seed_and_the_place_of_an_image_determine_its_noise(name):
    same = IMAGES[3][:1].expand(2, 3, 9, 8)
    corrupted = corrupt(same, name, 5, seed=1)
    assert not torch.equal(corrupted[0], corrupted[1])
    assert not torch.equal(corrupted, corrupt(same, name, 5, seed=2))
    assert torch.equal(corrupted, corrupt(same, name, 5, seed=1))


# The published parameters of the other three trade one effect for another: their severities rise for a network, not in
# the squared difference of smooth images.
@pytest.mark.parametrize(
    "name", [name for name in CORRUPTIONS if name not in ("glass_blur", "snow", "elastic_transform")]
)
def test_higher_severities_change_more(name):
    # Smooth images of 32 pixels, as the levels are meant for.
    waves = torch.linspace(0, 9, 32)
    images = (0.5 + 0.4 * torch.sin(waves[:, None] + torch.arange(6)[:, None, None]) * torch.cos(waves)).unsqueeze(1)
    changes = [(corrupt(images, name, severity) - images).square().mean().item() for severity in range(1, 6)]
    assert changes == sorted(changes)
    assert changes[4] > 1.5 * changes[0] > 0


def test_accuracy_falls_with_severity(digits):
    model, images, labels = digits
    result = evaluate_corruptions(model, images, labels, ["gaussian_noise", "contrast"], [1, 3, 5], seed=1)
    assert result.clean.correct == int((model(images).argmax(1) == labels).sum())
    counts = [share.correct for share in result.accuracies["contrast"].values()]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < result.clean.correct - 20
    assert result.outcomes["contrast"][5].sum() == counts[-1]
    everything = [share.accuracy for shares in result.accuracies.values() for share in shares.values()]
    assert result.mean == pytest.approx(sum(everything) / 6)
    assert result.mean_interval == pytest.approx(hoeffding_interval(result.mean, 200))


def test_batches_and_the_choice_of_corruptions_change_nothing(digits):
    model, images, labels = digits
    model = model.double().requires_grad_(False)
    try:
        every = evaluate_corruptions(lambda x: model(x.double()), images, labels, severities=[5])
        some = evaluate_corruptions(
            lambda x: model(x.double()), images, labels, ["jpeg_compression", "fog"], [2, 5], batch_size=7
        )
    finally:
        model.float()
    for name in ("fog", "jpeg_compression"):
        assert torch.equal(every.outcomes[name][5], some.outcomes[name][5])


def test_a_constant_classifier_is_as_good_on_anything():
    labels = torch.tensor([0, 1, 1, 0, 1])
    result = evaluate_corruptions(Constant([0.0, 3.0]), IMAGES[3], labels)
    assert result.clean.correct == 3
    assert {share.correct for shares in result.accuracies.values() for share in shares.values()} == {3}
    assert result.mean == pytest.approx(0.6)


def test_engines_are_classifiers_and_get_images_they_accept(digits):
    model, images, labels = digits
    engine = BlackBoxVictim(ModuleEngine(model, (1, 8, 8), 10))
    from_engine = evaluate_corruptions(engine.logits, images[:20], labels[:20], severities=[5])
    from_model = evaluate_corruptions(model, images[:20], labels[:20], severities=[5])
    assert from_engine.record.to_json() == from_model.record.to_json()


def test_json_holds_counts_and_intervals():
    result = evaluate_corruptions(
        Constant([0.0, 3.0]), IMAGES[1], torch.ones(5).long(), ["jpeg_compression"], [1, 5], seed=4
    )
    document = json.loads(json.dumps(result.record.to_json()))
    assert document == {
        "clean": {"correct": 5, "total": 5, "accuracy": 1.0, "low": pytest.approx(0.478176), "high": 1.0},
        "mean": {"accuracy": 1.0, "total": 5, "low": pytest.approx(0.478176), "high": 1.0},
        "corruptions": {
            "jpeg_compression": [
                {"severity": severity, "correct": 5, "total": 5, "accuracy": 1.0,
                 "low": pytest.approx(0.478176), "high": 1.0}
                for severity in (1, 5)
            ]
        },
        "seed": 4,
    }  # fmt: skip


def test_progress_counts_batches():
    steps = []
    evaluate_corruptions(
        Constant([0.0, 2.0]), IMAGES[1], torch.ones(5).long(), ["fog"], [1, 2], batch_size=3,
        progress=lambda *step: steps.append(step),
    )  # fmt: skip
    assert steps == [("fog", 1, 4), ("fog", 2, 4), ("fog", 3, 4), ("fog", 4, 4)]


def test_what_would_give_a_wrong_number_is_refused():
    images, labels, constant = IMAGES[1], torch.ones(5).long(), Constant([0.0, 2.0])
    with pytest.raises(InputError, match="unknown corruption 'frost'; the corruptions are gaussian_noise"):
        evaluate_corruptions(constant, images, labels, ["frost"])
    with pytest.raises(InputError, match="severity 6 of fog"):
        corrupt(images, "fog", 6)
    with pytest.raises(InputError, match="2 channels"):
        corrupt(torch.rand(1, 2, 4, 4), "fog", 1)
    with pytest.raises(InputError, match="each once"):
        evaluate_corruptions(constant, images, labels, ["fog", "fog"])
    with pytest.raises(InputError, match="give at least one"):
        evaluate_corruptions(constant, images, labels, severities=[])
    with pytest.raises(InputError, match="train mode"):
        evaluate_corruptions(nn.Sequential(nn.Flatten(), nn.Linear(72, 2)), images, labels)
    with pytest.raises(InputError, match="must lie in \\[0, 1\\]"):
        evaluate_corruptions(constant, images * 255, labels)
    with pytest.raises(InputError, match="probabilities"):
        evaluate_corruptions(Constant([0.25, 0.75]), images, labels)
    with pytest.raises(InputError, match="finite"):
        evaluate_corruptions(Constant([0.25, float("nan")]), images, labels)
    with pytest.raises(InputError, match=r"\[5, K\], not \[2\]"):
        evaluate_corruptions(lambda _: torch.ones(2), images, labels)
    with pytest.raises(InputError, match="batch_size = 0"):
        evaluate_corruptions(constant, images, labels, batch_size=0)
