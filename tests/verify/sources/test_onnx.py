from __future__ import annotations

import pickle
from dataclasses import replace

import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from tests.engines.nets import dense_weight, linear_onnx
from tests.verify.models import MEAN, PLACES, STD, accuracy, export, random_images
from tscnc_deploy.engines.onnx.reading import Reading
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import PGD, BlackBoxVictim, EngineVictim, ModelVictim, Square, Threat, evaluate
from tscnc_deploy.verify import BundleSource, CheckpointSource, IOSpec, OnnxSource, draw_images, order_of, read_names

LABELS = ",".join(str(digit) for digit in PLACES)


@pytest.fixture
def linear():
    """Images [N, 1, 8, 8] -> 3 logits."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with torch.no_grad():
        module[1].weight.copy_(torch.linspace(-1, 1, 192).reshape(3, 64))
        module[1].bias.zero_()
    return module


def test_a_file_that_takes_pixels(files):
    source = OnnxSource(files.whole)
    assert source.name == "whole"
    assert source.form() == IOSpec((1, 8, 8), 10)
    victim = source.open("cpu")
    assert isinstance(victim, BlackBoxVictim)
    torch.testing.assert_close(victim.logits(random_images()), files.model(random_images()), atol=1e-4, rtol=1e-4)


def test_normalisation_and_order_of_classes_by_option(files, digits):
    images, labels, classes = draw_images(digits, None, 0)
    expected = OnnxSource(files.whole).open("cpu").logits(images)
    assert accuracy(expected, labels) > 0.6
    plain = OnnxSource(files.permuted, MEAN, STD)
    assert accuracy(plain.open("cpu").logits(images), labels) < 0.3
    ordered = replace(plain, order=order_of(read_names(LABELS), classes, outputs=10))
    logits = ordered.open("cpu").logits(images)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    assert accuracy(logits, labels) == accuracy(expected, labels)


def test_an_order_alone_leaves_the_pixels_alone(files):
    logits = OnnxSource(files.whole, order=(7, 2)).open("cpu").logits(random_images())
    assert logits.equal(OnnxSource(files.whole).open("cpu").logits(random_images())[:, [7, 2]])


def test_with_a_twin_it_is_attacked_by_gradients(files, digits):
    images, labels, _ = draw_images(digits, 40, 0)
    source = OnnxSource(files.bare, MEAN, STD, twin=CheckpointSource(files.saved))
    victim = source.open("cpu")
    assert isinstance(victim, EngineVictim)
    result = evaluate(victim, images, labels, Threat(epsilon=0.2), [PGD(5)])
    assert result.clean.accuracy > 0.6
    assert result.robust.accuracy < 0.1


def test_without_a_twin_only_by_queries(files, digits):
    images, labels, _ = draw_images(digits, 20, 0)
    victim = OnnxSource(files.whole).open("cpu")
    with pytest.raises(InputError, match="'pgd-5' needs gradients"):
        evaluate(victim, images, labels, Threat(epsilon=0.2), [PGD(5)])
    assert evaluate(victim, images, labels, Threat(epsilon=0.3), [Square(50)]).robust.accuracy < 0.5


def test_order_of_an_engine_and_of_its_twin(files):
    source = OnnxSource(files.whole, order=(2, 0, 9), twin=CheckpointSource(files.saved, order=(2, 0, 9)), threads=1)
    engine, twin = source.open("cpu").both(random_images())
    torch.testing.assert_close(engine, twin, atol=1e-4, rtol=1e-4)


def test_a_bundle_gives_a_twin_of_another_form(files, bundle):
    with pytest.raises(InputError, match=r"maps images \[1, 8, 8\] .* to 10 logits, but its twin twin .* to 3 logits"):
        OnnxSource(files.whole, twin=BundleSource(bundle)).open("cpu")


def test_an_engine_is_no_twin(files):
    with pytest.raises(InputError, match="its twin bare has no gradient; a twin must be a PyTorch model"):
        OnnxSource(files.whole, twin=OnnxSource(files.bare)).open("cpu")


def test_other_processes_open_the_same(files):
    source = OnnxSource(files.bare, MEAN, STD, (1, 0), CheckpointSource(files.saved, order=(1, 0)), threads=1)
    copy = pickle.loads(pickle.dumps(source))
    assert copy == source
    assert hash(copy) == hash(source)
    images = random_images()
    assert copy.open("cpu").logits(images).equal(source.open("cpu").logits(images))
    assert pickle.loads(pickle.dumps(source.open))("cpu").logits(images).equal(source.open("cpu").logits(images))


def test_the_digest_covers_what_determines_the_logits(files, tmp_path):
    source = OnnxSource(files.bare, MEAN, STD)
    other = tmp_path / "other.onnx"
    other.write_bytes(files.bare.read_bytes())
    assert replace(source, path=other, threads=2).digest() == source.digest()
    changes = [
        {"path": files.permuted},
        {"mean": (0.31,)},
        {"std": (0.41,)},
        {"mean": None, "std": None},
        {"order": (1, 0)},
        {"order": (0, 1)},
        {"twin": CheckpointSource(files.saved)},
        {"twin": CheckpointSource(files.saved, order=(0, 1))},
        {"twin": CheckpointSource(files.weights)},
        {"reading": Reading(range=255)},
        {"own_gradient": True},
    ]
    digests = [source.digest(), *(replace(source, **change).digest() for change in changes)]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 64 for digest in digests)


def test_a_fixed_batch(linear, tmp_path):
    images = random_images(5)
    path = export(linear, images[:2], tmp_path / "fixed.onnx", free=False)
    logits = OnnxSource(path, (0.5,), (0.25,)).open("cpu").logits(images)
    torch.testing.assert_close(logits, linear((images - 0.5) / 0.25), atol=1e-4, rtol=1e-4)


def test_channels_last_are_found(linear, tmp_path):
    class Last(nn.Module):
        def forward(self, images):
            return nn.functional.avg_pool2d(images.permute(0, 3, 1, 2), 8).flatten(1)

    source = OnnxSource(export(Last(), torch.rand(2, 8, 8, 3), tmp_path / "last.onnx"))
    assert source.form() == IOSpec((3, 8, 8), 3)
    images = torch.rand(5, 3, 8, 8)
    torch.testing.assert_close(source.open("cpu").logits(images), images.mean((2, 3)))


def test_bytes_as_input_are_rounded_pixels(linear, tmp_path):
    class Bytes(nn.Module):
        def forward(self, images):
            return linear(images.float() / 255)

    path = export(Bytes(), torch.zeros(2, 1, 8, 8, dtype=torch.uint8), tmp_path / "bytes.onnx")
    images = random_images()
    logits = OnnxSource(path).open("cpu").logits(images)
    torch.testing.assert_close(logits, linear((images * 255).round() / 255), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.Sigmoid()])
def test_probabilities_give_way_to_logits(linear, tmp_path, last):
    path = export(nn.Sequential(linear, last, nn.Flatten()), random_images(2), tmp_path / "p.onnx")
    for source, columns in ((OnnxSource(path), [0, 1, 2]), (OnnxSource(path, order=(2, 0)), [2, 0])):
        logits = source.open("cpu").logits(random_images())
        torch.testing.assert_close(logits, linear(random_images())[:, columns], atol=1e-5, rtol=1e-5)


def test_the_gradient_is_that_of_the_file(files, digits):
    images, labels, _ = draw_images(digits, 40, 0)
    source = OnnxSource(files.bare, MEAN, STD)
    parity, elements = source.own_gradient_parity(images.numpy())
    assert parity.passed
    assert 8 * 8 * 8 * 2 < elements < 100_000
    assert (parity.images, parity.agreement, parity.quantised) == (40, 1.0, False)
    assert parity.difference < 1e-5
    victim = replace(source, own_gradient=True).open("cpu")
    assert isinstance(victim, EngineVictim)
    threat = Threat(epsilon=0.05)
    ours = evaluate(victim, images, labels, threat, [PGD(5)])
    expected = evaluate(ModelVictim(files.model), images, labels, threat, [PGD(5)])
    assert 0 < expected.robust.accuracy < expected.clean.accuracy
    assert ours.robust_mask.equal(expected.robust_mask)


def test_weights_in_a_file_beside_it(files, tmp_path):
    path = tmp_path / "beside.onnx"
    onnx.save(onnx.load(files.whole), path, save_as_external_data=True, location="beside.onnx.data", size_threshold=0)
    assert path.stat().st_size < files.whole.stat().st_size / 2
    source = OnnxSource(path)
    images = random_images()
    assert source.open("cpu").logits(images).equal(OnnxSource(files.whole).open("cpu").logits(images))
    before = source.digest()
    data = tmp_path / "beside.onnx.data"
    content = data.read_bytes()
    data.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert source.digest() != before


def test_logarithms_of_probabilities_are_logits(linear, tmp_path):
    path = export(nn.Sequential(linear, nn.LogSoftmax(1)), random_images(2), tmp_path / "log.onnx")
    torch.testing.assert_close(
        OnnxSource(path).open("cpu").logits(random_images()), linear(random_images()).log_softmax(1)
    )


def test_of_several_outputs_the_one_with_logits(linear, tmp_path):
    class Two(nn.Module):
        def forward(self, images):
            logits = linear(images)
            return logits.argmax(1), logits

    path = export(Two(), random_images(2), tmp_path / "two.onnx")
    torch.testing.assert_close(OnnxSource(path).open("cpu").logits(random_images()), linear(random_images()))


def test_what_is_no_file_of_a_model_is_refused(files, tmp_path):
    data = files.whole.read_bytes()
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "cut.onnx").write_bytes(data[: len(data) // 2])
    (tmp_path / "folder.onnx").mkdir()
    for name, message in {
        "empty.onnx": "it contains no graph",
        "cut.onnx": "truncated",
        "folder.onnx": "is not a regular file",
        "none.onnx": "file not found",
    }.items():
        with pytest.raises(InputError, match=rf"{name}: .*{message}"):
            OnnxSource(tmp_path / name).open("cpu")
    for name in ("folder.onnx", "none.onnx"):
        with pytest.raises(InputError, match=name):
            OnnxSource(tmp_path / name).digest()


def test_weights_in_a_file_that_is_missing(tmp_path):
    weight = dense_weight([0.0] * 8)
    weight.data_location = 1
    weight.external_data.add(key="location", value="weights.bin")
    weight.ClearField("float_data")
    with pytest.raises(InputError, match=r"its weights are in 'weights\.bin', which cannot be read: No such file"):
        OnnxSource(linear_onnx(weight, tmp_path / "split.onnx")).open("cpu")


def test_nodes_in_a_circle_end_the_search_for_probabilities(tmp_path):
    nodes = [helper.make_node("Identity", ["b"], ["logits"]), helper.make_node("Identity", ["logits"], ["b"])]
    path = linear_onnx(dense_weight([0.0] * 8), tmp_path / "circle.onnx", nodes=nodes)
    with pytest.raises(InputError, match=r"circle\.onnx: onnxruntime refuses it"):
        OnnxSource(path).open("cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": (0.5,)}, "--mean is given without --std"),
        ({"std": (0.5,)}, "--std is given without --mean"),
    ],
)
def test_half_a_normalisation_is_refused(files, changes, message):
    with pytest.raises(InputError, match=message):
        OnnxSource(files.bare, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": (0.5, 0.5, 0.5), "std": (1.0,)}, "--mean has 3 values; give one value or one per channel"),
        ({"order": (0, 10)}, "among the engine's 10 logits"),
    ],
)
def test_what_does_not_fit_the_file_is_refused(files, changes, message):
    with pytest.raises(InputError, match=message):
        OnnxSource(files.bare, **changes).open("cpu")


def test_the_cpu_where_onnxruntime_cannot_use_a_gpu(files):
    # A GPU is used where there is one; either way the logits are the file's.
    victim = OnnxSource(files.whole).open("cuda")
    assert victim.engine.spec.provider in ("CPUExecutionProvider", "CUDAExecutionProvider")
    torch.testing.assert_close(victim.logits(random_images()), files.model(random_images()), atol=1e-3, rtol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_gpu(files):
    source = OnnxSource(files.bare, MEAN, STD, twin=CheckpointSource(files.saved))
    images = random_images()
    victim = source.open("cuda")
    assert victim.device.type == "cuda"
    torch.testing.assert_close(victim.logits(images.cuda()).cpu(), files.model(images), atol=1e-3, rtol=1e-3)
