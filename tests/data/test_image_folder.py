from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tscnc_deploy.data import digest, load
from tscnc_deploy.errors import DataError
from tscnc_deploy.recipe import Data


@pytest.fixture
def root(tmp_path, grey) -> Path:
    """Classes "even" and "odd", five training and two test images of each, all grey PNG of 8x8."""
    pictures = iter(grey)
    for part, count in (("train", 5), ("test", 2)):
        for name in ("even", "odd"):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(next(pictures)).save(folder / f"{number}.png")
    return tmp_path / "images"


def settings(root: Path, **changes) -> Data:
    return Data(**({"dataset": "imagefolder", "root": str(root), "validation": 0.2} | changes))


def test_grey_images_have_one_channel(root):
    data = load(settings(root))
    assert data.classes == ("even", "odd")
    assert data.input_shape == (1, 8, 8)
    assert (len(data.train), len(data.validation), len(data.test)) == (8, 2, 4)
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    assert np.array_equal(data.test.images[2, 0].numpy(), np.asarray(Image.open(root / "test" / "odd" / "0.png")))


def test_one_coloured_image_makes_all_rgb(root):
    Image.new("RGB", (8, 8), (255, 0, 51)).save(root / "train" / "odd" / "red.bmp")
    data = load(settings(root, validation=0.0))
    assert data.input_shape == (3, 8, 8)
    assert data.train.images[-1, :, 0, 0].tolist() == [255, 0, 51]
    assert data.test.images[0, 0].equal(data.test.images[0, 2])


def test_every_extension_is_found_at_any_depth_but_hidden_and_other_files_are_not(root):
    folder = root / "test" / "odd"
    for number, extension in enumerate(("PNG", "jpg", "jpeg", "bmp", "webp", "ppm", "tif", "tiff", "gif")):
        (folder / "deep").mkdir(exist_ok=True)
        Image.new("L", (8, 8), 20 * number).save(folder / "deep" / f"x.{extension}")
    (folder / "notes.txt").write_text("no image")
    (folder / "._0.png").write_bytes(b"a Finder's companion of 0.png")
    (root / "test" / ".cache").mkdir()
    assert len(load(settings(root)).test) == 4 + 9


def test_sixteen_bits_become_eight(root):
    values = np.array([[0, 257], [257 * 128, 65535]], np.uint16).repeat(4, axis=0).repeat(4, axis=1)
    Image.fromarray(values).save(root / "test" / "odd" / "9.png")
    data = load(settings(root))
    assert data.test.images[-1, 0, ::4, ::4].tolist() == [[0, 1], [128, 255]]


def test_different_sizes_need_image_size(root):
    Image.new("L", (10, 6), 7).save(root / "train" / "odd" / "wide.png")
    with pytest.raises(
        DataError, match=r"images have 2 sizes \(width x height\): 8x8 \(.*\), 10x6 \(.*wide.png\); set da"
    ):
        load(settings(root))
    data = load(settings(root, image_size=4, validation=0.0))
    assert data.input_shape == (1, 4, 4)
    assert data.train.images[-1].unique().tolist() == [7]


def test_corrupt_files_are_named_and_refused_or_skipped(root, caplog):
    broken, empty = root / "train" / "even" / "2.png", root / "test" / "odd" / "1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    empty.write_bytes(b"")
    with pytest.raises(
        DataError, match=r"^2 corrupt: .*even/2.png \(.*\), .*odd/1.png \(cannot identify image file\); fi"
    ):
        load(settings(root))
    data = load(settings(root, corrupt_images="skip", validation=0.0))
    assert (len(data.train), len(data.test)) == (9, 3)
    assert data.train.labels.bincount().tolist() == [4, 5]
    assert data.skipped == (str(broken), str(empty))
    assert "skipped 2 corrupt" in caplog.text


def test_a_class_without_one_good_image(root):
    for path in (root / "test" / "odd").iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="test/odd: contains no readable image"):
        load(settings(root, corrupt_images="skip"))


def test_no_image_at_all_can_be_read(root):
    for path in root.rglob("*.png"):
        path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"is not an image .*, and neither is any of the other files"):
        load(settings(root, corrupt_images="skip"))


def test_a_test_image_that_is_also_trained_on_is_refused(root):
    shutil.copy(root / "train" / "even" / "3.png", root / "test" / "odd" / "copy.png")
    with pytest.raises(DataError, match=r"^1 test images are also training images: .*copy.png is .*even/3.png; remove"):
        load(settings(root))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: shutil.rmtree(root), "folder not found; it must contain train/ and test/ with one folder"),
        (lambda root: shutil.rmtree(root / "test"), "test: folder not found; data.root must contain train/ and test/"),
        (lambda root: shutil.rmtree(root / "train" / "odd"), "train: has only one class folder, 'even'; a classifier"),
        (lambda root: [shutil.rmtree(p) for p in (root / "train").iterdir()], "train: has no class folders; a class"),
        (lambda root: (root / "train" / "odd").rename(root / "train" / "old"), "train: lacks odd, which .*test has"),
        (lambda root: (root / "test" / "third").mkdir(), "train: lacks third, which .*test has; both need the same"),
        (
            lambda root: [p.unlink() for p in (root / "test" / "odd").iterdir()],
            r"test/odd: contains no images \(.bmp .gif",
        ),
    ],
)
@pytest.mark.parametrize("function", [load, digest])
def test_a_folder_of_another_form(root, function, damage, message):
    damage(root)
    with pytest.raises(DataError, match=message):
        function(settings(root))


def test_the_digest_covers_names_and_contents_but_not_the_place(root):
    before = digest(settings(root))
    moved = root.rename(root.with_name("moved"))
    assert digest(settings(moved, image_size=4, corrupt_images="skip")) == before
    (moved / "train" / "even" / "0.png").rename(moved / "train" / "odd" / "a.png")
    assert digest(settings(moved)) != before
