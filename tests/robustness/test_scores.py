from __future__ import annotations

import torch

from tscnc_deploy.robustness.scores import different_images, missing_score


def logits(count=64, classes=10):
    return torch.randn(count, classes, generator=torch.Generator().manual_seed(0))


def test_logits_give_a_score():
    assert missing_score(logits()) is None
    assert missing_score(logits() * 1e-6) is None
    assert missing_score(logits().softmax(1)) is None
    assert missing_score(logits(classes=2)) is None


def test_labels_give_none():
    hard = torch.nn.functional.one_hot(logits().argmax(1), 10).float()
    assert missing_score(hard) == "its 640 logits on 64 different images take only 2 different values"
    assert missing_score(hard[:0]) is None


def test_rounded_and_saturated_logits_give_none():
    assert "different values" in missing_score((logits() * 10).round() / 10)
    assert "different values" in missing_score(torch.sigmoid(logits() * 1e4))


def test_ties_give_none():
    tied = logits()
    tied[:8, :2] = tied[:8].amax(1, keepdim=True) + 1
    assert missing_score(tied) == "the two largest logits are equal on 8 of 64 different images"


def test_a_gap_gives_none():
    hard = torch.nn.functional.one_hot(logits().argmax(1), 10).float()
    said = missing_score(hard + 1e-3 * logits())
    assert said.startswith("the two largest logits differ by at least 1 on all of 64 different images, by 1 in the")
    assert said.endswith("no answer is close to another class")


def test_equal_images_count_once():
    images = torch.zeros(5, 1, 2, 2)
    images[1] = 1
    images[3, 0, 0, 0] = 0.5
    assert different_images(images).tolist() == [0, 1, 3]
