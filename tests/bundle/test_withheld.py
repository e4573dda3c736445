"""Evidence that ships places and digests of its images instead of the images."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy

from tests.bundle.folders import contents, evidence, write_bundle
from tscnc_deploy import open_bundle
from tscnc_deploy.bundle import seal
from tscnc_deploy.bundle.withheld import WithheldEvidence, digest_images
from tscnc_deploy.errors import BundleError

PLACES = np.array([5, 0, 3, 2])


def whole_set() -> tuple[np.ndarray, np.ndarray]:
    """Six test images, four of which are the evidence."""
    whole = evidence()
    images = np.full((6, 1, 8, 8), 0.5, np.float32)
    labels = np.zeros(6, np.int64)
    images[PLACES], labels[PLACES] = whole.images, whole.labels
    return images, labels


@pytest.fixture
def withheld(tmp_path):
    folder = write_bundle(tmp_path / "bundle")
    WithheldEvidence.of(evidence(), PLACES).write(folder)
    seal(folder, contents())
    return folder


def rewrite(folder, **changes):
    path = folder / "evidence" / "evidence.safetensors"
    arrays = safetensors.numpy.load(path.read_bytes()) | changes
    path.write_bytes(safetensors.numpy.save({name: array for name, array in arrays.items() if array is not None}))
    seal(folder, contents())


def test_the_file_holds_places_digests_and_outcomes_only(withheld):
    arrays = safetensors.numpy.load((withheld / "evidence" / "evidence.safetensors").read_bytes())
    assert sorted(arrays) == ["digests", "index", "outcome.onnx-cpu.pgd-20"]
    assert arrays["index"].tolist() == [5, 0, 3, 2]
    assert arrays["digests"].shape == (4, 32)


def test_the_digest_is_of_label_and_pixels():
    image = np.zeros((1, 1, 1, 1), np.float32)
    # SHA-256 of 12 zero bytes, and of a label 1 before four of them.
    assert digest_images(image, np.array([0]))[0].tobytes().hex().startswith("15ec7bf0b50732b4")
    assert (
        digest_images(image, np.array([1]))[0].tobytes().hex() != digest_images(image, np.array([0]))[0].tobytes().hex()
    )
    assert (
        digest_images(np.full_like(image, 1e-7), np.array([0])).tolist() != digest_images(image, np.array([0])).tolist()
    )


def test_without_the_data_set_there_are_no_images(withheld):
    bundle = open_bundle(withheld)
    assert bundle.withheld.index.tolist() == [5, 0, 3, 2]
    assert bundle.record.name == "tiny"
    with pytest.raises(BundleError, match="indices of 4 test images; give the data set with --data-root"):
        _ = bundle.evidence


def test_the_data_set_completes_it(withheld):
    bundle = open_bundle(withheld).with_images(*whole_set())
    assert np.array_equal(bundle.evidence.images, evidence().images)
    assert bundle.evidence.labels.tolist() == [0, 1, 2, 0]
    assert bundle.evidence.outcomes["onnx-cpu.pgd-20"].tolist() == [True, False, True, True]
    assert bundle.evidence.adversarial == {}


def test_other_images_are_refused(withheld):
    bundle = open_bundle(withheld)
    images, labels = whole_set()
    images[3, 0, 4, 4] += 1e-3
    with pytest.raises(BundleError, match=r"1 of 4 images of the given data set are not those .* is test image 3"):
        bundle.with_images(images, labels)
    images, labels = whole_set()
    labels[5] = 1
    with pytest.raises(BundleError, match="the first is test image 5"):
        bundle.with_images(images, labels)
    with pytest.raises(BundleError, match="names test image 5; the given data set has 4"):
        bundle.with_images(*(part[:4] for part in whole_set()))
    with pytest.raises(BundleError, match=r"takes images \[1, 8, 8\]; those of the given data set are \[3, 8, 8\]"):
        bundle.with_images(np.repeat(whole_set()[0], 3, axis=1), labels)


def test_a_bundle_with_images_takes_no_others(folder):
    with pytest.raises(BundleError, match="contains its evidence images"):
        open_bundle(folder).with_images(*whole_set())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"index": np.array([5, 0, 3, -1])}, "'index' has a negative or repeated index"),
        ({"index": np.array([5, 0, 3, 3])}, "'index' has a negative or repeated index"),
        ({"index": np.array(5)}, r"'index' must be int64 \[0\], not int64 \[\]"),
        ({"index": np.array([5.0, 0, 3, 2])}, "'index' must be int64"),
        ({"digests": np.zeros((4, 31), np.uint8)}, r"'digests' must be uint8 \[4, 32\], not uint8 \[4, 31\]"),
        ({"digests": np.zeros((3, 32), np.uint8)}, r"'digests' must be uint8 \[4, 32\]"),
        ({"digests": None}, "'digests' is missing"),
        ({"images": np.zeros((4, 1, 8, 8), np.float32)}, "'images' is not expected beside an index"),
        (
            {"adversarial.twin": np.zeros((4, 1, 8, 8), np.float32)},
            "'adversarial.twin' is not expected beside an index",
        ),
        ({"outcome.x": np.zeros(3, np.uint8)}, r"'outcome.x' must be bool \[4\], not bool \[3\]"),
    ],
)
def test_names_the_array_that_is_wrong(withheld, changes, message):
    rewrite(withheld, **changes)
    with pytest.raises(BundleError, match=message):
        _ = open_bundle(withheld).withheld
