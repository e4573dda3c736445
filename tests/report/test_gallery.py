from __future__ import annotations

import errno
import sys

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from tscnc_deploy.errors import InputError
from tscnc_deploy.report.gallery import DPI, SIDE, magnified, save_examples, write_gallery
from tscnc_deploy.robustness import Threat

LINF = Threat(epsilon=0.1)
CLASSES = ["cat", "dog", "a class of a very long name"]


def examples(count=3, channels=1, side=8):
    images = torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2
    labels = torch.arange(count) % 2
    return images, images + 0.1, labels, labels.clone(), 1 - labels


def drawn(path, *parts, **options):
    write_gallery(path, *parts, CLASSES, options.pop("threat", LINF), **options)
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def texts(monkeypatch, path, *parts, **options):
    """What is written in the picture."""
    found = []
    monkeypatch.setattr(
        "matplotlib.figure.Figure.text", lambda _self, _x, _y, text, **_options: found.append(text), raising=True
    )
    drawn(path, *parts, **options)
    return found


def colours(picture):
    return {tuple(colour) for colour in picture.reshape(-1, 3).tolist()}


def test_a_grey_image_its_example_and_the_magnified_difference_are_in_the_picture(tmp_path):
    images = torch.full((1, 1, 2, 2), 0.4)
    moves = torch.tensor([[[[0.1, -0.1], [0.0, 0.05]]]])
    label = torch.tensor([0])
    picture = drawn(tmp_path / "a.png", images, images + moves, label, label, 1 - label)
    found = colours(picture)
    side = int(SIDE * DPI)
    # 0.4 and, changed, 0.5, 0.3, 0.4 and 0.45; the changes are white, black, mid-grey and three quarters.
    for grey in (102, 127, 76, 114, 255, 0, 191):
        assert any((abs(np.array(list(found)) - grey) <= 1).all(1)), grey
    assert picture.shape[1] > 3 * side


def test_pixels_of_tiny_images_stay_squares(tmp_path):
    images = torch.tensor([[[[0.2, 0.8], [0.8, 0.2]]]])
    label = torch.tensor([0])
    picture = drawn(tmp_path / "a.png", images, images, label, label, label)
    # Image and example are half of one colour and half of the other, with nothing between but their edges.
    squares = sum(int((picture == colour).all(2).sum()) for colour in (51, 204))
    assert squares >= 2 * (int(SIDE * DPI) - 4) ** 2


def test_colours_are_kept(tmp_path):
    images = torch.tensor([0.2, 0.4, 0.8])[None, :, None, None].expand(1, 3, 4, 4)
    label = torch.tensor([0])
    found = colours(drawn(tmp_path / "a.png", images, images, label, label, label))
    assert (51, 102, 204) in found
    assert any(max(abs(np.array(colour) - 127.5)) <= 0.5 for colour in found)


def test_images_of_other_channels_are_drawn_in_grey(tmp_path):
    images = torch.tensor([0.2, 0.4])[None, :, None, None].expand(1, 2, 4, 4)
    label = torch.tensor([0])
    found = colours(drawn(tmp_path / "a.png", images, images, label, label, label))
    assert {(76, 76, 76), (77, 77, 77)} & found


def test_misclassified_images_come_first_with_both_names(tmp_path, monkeypatch):
    images, adversarial, labels, predictions, others = examples(4)
    predictions[0] = others[0] = 2
    others[1] = labels[1]
    found = texts(monkeypatch, tmp_path / "a.png", images, adversarial, labels, predictions, others)
    assert found[0] == "The attacks changed the label of 2 of 3 correctly classified images"
    assert found[1] == "Linf, ε = 0.1; difference (5 times): grey is 0, white ε, black its opposite"
    assert found[2:] == [
        "image", "adversarial", "difference",
        "cat → dog", "dog → cat", "dog, robust", "cat, clean: a class of a ve…",
    ]  # fmt: skip


def test_it_is_said_when_no_attack_succeeded(tmp_path, monkeypatch):
    images, adversarial, labels, predictions, _ = examples(3)
    found = texts(monkeypatch, tmp_path / "a.png", images, adversarial, labels, predictions, labels, count=2)
    assert found[0] == "The attacks changed the label of none of 3 correctly classified images"
    assert found[-2:] == ["cat, robust", "dog, robust"]


def test_no_more_rows_than_asked_for_in_two_columns(tmp_path, monkeypatch):
    found = texts(monkeypatch, tmp_path / "a.png", *examples(40), count=5)
    assert [text for text in found if "→" in text] == ["cat → dog", "dog → cat"] * 2 + ["cat → dog"]
    assert found.count("adversarial") == 2


def test_a_class_without_a_name_has_its_number(tmp_path, monkeypatch):
    images, adversarial, labels, predictions, others = examples(1)
    found = texts(monkeypatch, tmp_path / "a.png", images, adversarial, labels, predictions, others + 6)
    assert found[-1] == "cat → 7"


def test_l2_changes_are_shown_as_shares_of_the_largest():
    moves = np.array([[[0.02, -0.01], [0.0, 0.0]]])
    assert magnified(moves, Threat(norm="L2", epsilon=1.0)).tolist() == [[[1.0, 0.25], [0.5, 0.5]]]
    assert magnified(moves, Threat(epsilon=0.04)).tolist() == [[[0.75, 0.375], [0.5, 0.5]]]
    assert magnified(0 * moves, Threat(norm="L2", epsilon=1.0)).tolist() == [[[0.5, 0.5], [0.5, 0.5]]]


@pytest.mark.filterwarnings("error")
def test_equal_examples_give_equal_bytes_and_no_global_state(tmp_path):
    settings, modules = dict(matplotlib.rcParams), set(sys.modules)
    write_gallery(tmp_path / "a.png", *examples(3, 3, 200), ["$x$", "_y", "<b>"], LINF)
    write_gallery(tmp_path / "b.png", *examples(3, 3, 200), ["$x$", "_y", "<b>"], LINF)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert dict(matplotlib.rcParams) == settings
    assert "matplotlib.pyplot" not in set(sys.modules) - modules


def test_examples_open_without_pickle(tmp_path):
    images, adversarial, labels, predictions, others = examples(3)
    path = tmp_path / "a.npz"
    save_examples(
        path, images, adversarial, labels, predictions, others, LINF, engine="onnx-cpu", index=torch.tensor([4, 2, 9])
    )
    with np.load(path, allow_pickle=False) as found:
        assert sorted(found) == [
            "adversarial", "adversarial_predictions", "engine", "epsilon", "images", "index", "labels", "norm",
            "predictions",
        ]  # fmt: skip
        assert np.array_equal(found["adversarial"], adversarial.numpy())
        assert (found["images"].dtype, found["labels"].dtype) == (np.float32, np.int64)
        assert found["index"].tolist() == [4, 2, 9]
        assert found["adversarial_predictions"].tolist() == [1, 0, 1]
        assert (str(found["engine"]), str(found["norm"]), float(found["epsilon"])) == ("onnx-cpu", "Linf", 0.1)
    assert list(tmp_path.iterdir()) == [path]


def test_without_an_index_images_are_counted(tmp_path):
    save_examples(tmp_path / "a.npz", *examples(3), LINF, engine="twin")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert found["index"].tolist() == [0, 1, 2]


def test_what_cannot_be_drawn_is_refused(tmp_path):
    images, adversarial, labels, predictions, others = examples(3)
    with pytest.raises(InputError, match=r"must end in .png"):
        write_gallery(tmp_path / "a.jpg", images, adversarial, labels, predictions, others, CLASSES, LINF)
    with pytest.raises(InputError, match=r"of the lengths \[2, 3, 3\]"):
        write_gallery(tmp_path / "a.png", images, adversarial, labels[:2], predictions, others, CLASSES, LINF)
    with pytest.raises(InputError, match="count = 0"):
        write_gallery(tmp_path / "a.png", images, adversarial, labels, predictions, others, CLASSES, LINF, count=0)
    with pytest.raises(InputError, match=r"examples \[2, 1, 8, 8\]"):
        save_examples(tmp_path / "a.npz", images, adversarial[:2], labels, predictions, others, LINF, engine="twin")
    with pytest.raises(InputError, match=r"must end in .npz"):
        save_examples(tmp_path / "a.npy", images, adversarial, labels, predictions, others, LINF, engine="twin")
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_drawing_is_not_blamed_on_the_file(tmp_path, monkeypatch):
    def unreadable(*_arguments, **_options):
        raise PermissionError(errno.EACCES, "Permission denied", "font.ttf")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", unreadable)
    with pytest.raises(PermissionError, match=r"font\.ttf"):
        drawn(tmp_path / "a.png", *examples())
    assert not list(tmp_path.iterdir())
