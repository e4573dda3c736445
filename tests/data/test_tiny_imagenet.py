from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tscnc_deploy.data import digest, load
from tscnc_deploy.errors import DataError
from tscnc_deploy.recipe import Data


@pytest.fixture
def folder(tmp_path, grey):
    """Two classes, five training and two test images of each, in the official layout; one JPEG is grey."""
    folder = tmp_path / "tiny-imagenet-200"
    pictures = iter(grey.repeat(8, axis=1).repeat(8, axis=2))
    annotations = []
    (folder / "val" / "images").mkdir(parents=True)
    for label, wnid in enumerate(("n02124075", "n01443537")):
        images = folder / "train" / wnid / "images"
        images.mkdir(parents=True)
        for number in range(5):
            mode = "L" if number == label == 0 else "RGB"
            Image.fromarray(next(pictures)).convert(mode).save(images / f"{wnid}_{number}.JPEG")
        for number in range(2):
            name = f"val_{2 * label + number}.JPEG"
            Image.fromarray(next(pictures)).convert("RGB").save(folder / "val" / "images" / name)
            annotations.append(f"{name}\t{wnid}\t0\t32\t44\t62\n")
    (folder / "wnids.txt").write_text("n02124075\nn01443537\n")
    (folder / "words.txt").write_text("n01443537\tgoldfish, Carassius auratus\nn02124075\tEgyptian cat\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(annotations))
    return folder


def settings(root, **changes) -> Data:
    return Data(**({"dataset": "tiny-imagenet", "root": str(root), "validation": 0.2} | changes))


def test_the_labelled_validation_images_are_the_test_images(folder):
    data = load(settings(folder.parent))
    assert data.classes == ("Egyptian cat", "goldfish")
    assert data.input_shape == (3, 64, 64)
    assert (len(data.train), len(data.validation), len(data.test)) == (8, 2, 4)
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    expected = np.asarray(Image.open(folder / "val" / "images" / "val_2.JPEG")).transpose(2, 0, 1)
    assert np.array_equal(data.test.images[2].numpy(), expected)


def test_at_32_pixels(folder):
    assert load(settings(folder, image_size=32)).input_shape == (3, 32, 32)


def test_classes_that_share_a_word_are_told_apart(folder):
    (folder / "words.txt").write_text("n01443537\tcrane\nn02124075\tcrane, bird\n")
    assert load(settings(folder)).classes == ("crane (n02124075)", "crane (n01443537)")


def test_the_digest_covers_annotations_and_images(folder):
    before = digest(settings(folder.parent))
    assert before == digest(settings(folder))
    annotations = folder / "val" / "val_annotations.txt"
    annotations.write_text(annotations.read_text().replace("val_0.JPEG\tn02124075", "val_0.JPEG\tn01443537"))
    assert digest(settings(folder)) != before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "wnids.txt").unlink(), "contains no tiny-imagenet-200 with wnids.txt; unpack http"),
        (lambda folder: (folder / "words.txt").unlink(), "words.txt not found; get the data from http"),
        (
            lambda folder: (folder / "val" / "images" / "val_1.JPEG").unlink(),
            r"val_annotations.txt: line 2 \('val_1.JPEG.*must name an image in val/images",
        ),
        (
            lambda folder: (folder / "val" / "val_annotations.txt").write_text("../x.JPEG\tn02124075\n"),
            r"val_annotations.txt: line 1 .*must name an image",
        ),
        (
            lambda folder: (folder / "val" / "images" / "val_1.JPEG").write_bytes(b"\xff\xd8\xff"),
            r"val_1.JPEG: is damaged \(.*\), as are 0 others",
        ),
    ],
)
def test_an_incomplete_folder(folder, damage, message):
    damage(folder)
    with pytest.raises(DataError, match=message):
        load(settings(folder))
