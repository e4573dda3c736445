"""Evidence of few or easy images, and the images that a check draws itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.check import forging
from tests.check.forging import check, outcomes
from tests.conftest import invoke
from tscnc_deploy import open_bundle
from tscnc_deploy.check import CheckRequest, choose_policy
from tscnc_deploy.check.images import count_unlike, draw_images, evidence_images, first_of_each
from tscnc_deploy.errors import InputError

DIFFERENT = "evidence: different images"
UNLIKE = "evidence: images that are not nearly the same"
CHOSEN = "images: chosen by"
ROBUST = "onnx-cpu: robust accuracy, lower end"


def named(document, name):
    (result,) = [each for each in document["results"] if each["name"] == name]
    return result["outcome"], result["message"]


def robust_rows(evidence):
    mine = [mask for key, mask in evidence.outcomes.items() if key.startswith(("onnx-cpu.", "twin."))]
    return np.flatnonzero(np.logical_and.reduce(mine))


def take(evidence, rows):
    return replace(
        evidence,
        images=evidence.images[rows],
        labels=evidence.labels[rows],
        adversarial={key: images[rows] for key, images in evidence.adversarial.items()},
        outcomes={key: mask[rows] for key, mask in evidence.outcomes.items()},
    )


def test_copies_of_one_easy_image_count_once(bundle):
    forging.rewrite_evidence(bundle, lambda e: take(e, robust_rows(e)[:1].repeat(80)))
    document = check(bundle, status=1)
    assert named(document, DIFFERENT) == ("failed", "only 1 of 80 evidence images are different")
    # What is attacked is one image, from which nothing follows.
    assert document["engines"]["onnx-cpu"]["clean"]["total"] == 1
    assert named(document, ROBUST)[0] != "passed"


def test_copies_with_a_little_noise_are_nearly_the_same(bundle):
    def copies(evidence):
        found = take(evidence, robust_rows(evidence)[:1].repeat(80))
        noise = np.random.default_rng(0).uniform(-0.02, 0.02, found.images.shape).astype(np.float32)
        images = np.clip(found.images + noise, 0, 1)
        return replace(found, images=images, adversarial=dict.fromkeys(found.adversarial, images))

    forging.rewrite_evidence(bundle, copies)
    document = check(bundle, status=1)
    assert named(document, DIFFERENT)[0] == "passed"
    assert named(document, UNLIKE) == ("failed", "79 of 80 different images are nearly the same as another")


def test_some_images_that_are_nearly_the_same_are_reported(bundle):
    def pairs(evidence):
        images = evidence.images.copy()
        images[40:] = np.clip(images[:40] + np.float32(0.01), 0, 1)
        return replace(evidence, images=images, adversarial=dict.fromkeys(evidence.adversarial, images))

    forging.rewrite_evidence(bundle, pairs)
    document = check(bundle)
    assert named(document, UNLIKE) == ("note", "40 of 80 different images are nearly the same as another")


def test_easy_images_pass_only_until_a_data_set_is_given(bundle):
    """Evidence of robust images alone: the note says who chose them, and images of the check's own tell."""
    count = len(robust_rows(open_bundle(bundle).evidence))
    forging.rewrite_evidence(bundle, lambda e: take(e, robust_rows(e)))
    limit = ("--set", "gates.robust=0.8", "--set", "gates.engine_loss=none")
    document = check(bundle, *limit)
    assert named(document, CHOSEN)[0] == "note"
    assert named(document, CHOSEN)[1].startswith("the maker of the bundle, who may have taken those that are easy")
    assert (
        document["engines"]["onnx-cpu"]["robust"]["correct"]
        == count
        == document["engines"]["onnx-cpu"]["clean"]["total"]
    )
    document = check(bundle, *limit, "--dataset", "digits", "--samples", 100, "--seed", 5, status=1)
    assert named(document, CHOSEN) == ("passed", "this check: 100 test images, drawn with seed 5")
    assert named(document, ROBUST)[0] == "failed"


def test_the_strong_form_attacks_drawn_images_of_a_bundle_that_has_its_own(bundle):
    document = check(bundle, "--dataset", "digits", "--samples", 120, "--set", "gates.engine_loss=0.2")
    assert named(document, CHOSEN)[0] == "passed"
    assert document["engines"]["onnx-cpu"]["clean"]["total"] == 120
    assert "replay" not in document["engines"]["onnx-cpu"]["attacks"]
    assert "onnx-cpu: replayed examples have the recorded outcomes" in outcomes(document, "passed")
    loss = named(document, "onnx-cpu: gates.engine_loss, robust accuracy lost to the twin, upper bound")
    assert loss == ("passed", "0 images lost and 0 gained of 120")


def drawn(bundle, **options):
    opened = open_bundle(bundle)
    return draw_images(opened, choose_policy(opened), CheckRequest(bundle, dataset="digits", **options))


def test_a_draw_is_stratified_and_depends_on_the_seed_alone(bundle):
    first, again, other = drawn(bundle), drawn(bundle), drawn(bundle, seed=1)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    # As many as a default bundle ships, of the 360 test images of the whole data set: the recipe's limit is not used.
    assert (len(first.labels), first.images.shape[1:], first.drawn) == (256, (1, 8, 8), True)
    counts = first.labels.bincount(minlength=10)
    assert int(counts.max() - counts.min()) <= 2
    assert not evidence_images(open_bundle(bundle)).drawn


def test_images_that_cannot_be_drawn_are_bad_input(bundle, tmp_path):
    with pytest.raises(InputError, match="--samples 1000: digits has only 360 test images"):
        drawn(bundle, samples=1000)
    images = np.zeros((40, 16, 16, 1), np.uint8)
    labels = np.arange(40) % 10
    parts = {
        f"{part}_{what}": array
        for part in ("train", "test")
        for what, array in (("images", images), ("labels", labels))
    }
    np.savez(tmp_path / "large.npz", **parts)
    document = check(bundle, "--dataset", "npz", "--data-root", tmp_path / "large.npz", status=2)
    assert (
        "is for images [1, 8, 8] (channels, height, width), but those of npz are [1, 16, 16]"
        in (document["results"][-1]["message"])
    )
    forging.rewrite_record(bundle, lambda record: record["model"].update(classes=list("abcdefghij")))
    forging.reseal(bundle, lambda contents: contents["model"].update(classes=list("abcdefghij")))
    with pytest.raises(InputError, match="has other classes than digits, or the same in another order"):
        drawn(bundle)


def test_samples_need_a_data_set(bundle):
    refused = invoke("check", bundle, "--samples", 5)
    assert refused.exit_code == 2
    assert "--samples requires --dataset or --data-root" in refused.stderr


def test_equal_images_are_found_by_their_pixels():
    images = np.array([0.0, 0.5, -0.0, 0.5, 0.25], np.float32).reshape(5, 1, 1, 1)
    assert first_of_each(images) == [0, 1, 4]


def test_nearly_equal_thumbnails_count_once():
    black, grey, white = torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), 0.03), torch.ones(1, 3, 16, 16)
    assert count_unlike(torch.cat([black, grey, white, white - 0.01])) == 2
    assert count_unlike(torch.zeros(0, 1, 8, 8)) == 0
