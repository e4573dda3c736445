from __future__ import annotations

import hashlib

import pytest
from onnx import helper

from tests.engines.architectures import SHAPE, network
from tests.engines.nets import dense_weight, linear_onnx, sparse_weight
from tests.engines.tensorrt.conftest import target
from tscnc_deploy.engines import ExportAids, engine_facts, export_engine, load_target
from tscnc_deploy.engines.tensorrt import library
from tscnc_deploy.engines.tensorrt.builder import build
from tscnc_deploy.engines.tensorrt.store import build_into
from tscnc_deploy.errors import InputError

pytestmark = pytest.mark.tensorrt_rtx


@pytest.fixture
def aids(architectures):
    return ExportAids(dense=architectures.dense())


def test_what_is_written_describes_itself(built):
    assert sorted(path.name for path in built.iterdir()) == [
        "engine.json",
        "model.dense.onnx",
        "model.engine",
        "model.graph.onnx",
        "target.json",
    ]
    facts = engine_facts(built)
    assert (facts["kind"], facts["precision"]) == ("tensorrt-rtx", "fp16")
    assert facts["bytes"] == (built / "model.engine").stat().st_size
    assert facts["made_for"] == ["SM80", "SM89"]
    assert facts["build"]["batch"] == [1, 32, 256]
    assert facts["build"]["workspace_bytes"] > 0
    assert facts["build"]["input_shape"] == [3, 32, 32]


def test_tensorrt_says_that_every_inner_layer_is_half_and_the_ends_are_not(built):
    precisions = [layer["precision"] for layer in engine_facts(built)["build"]["layers"]]
    assert precisions == ["fp32", *["fp16"] * 19, "fp32"]


def test_fp32_is_fp32_in_every_layer(tmp_path, aids):
    files = export_engine(network(), target("tensorrt-rtx-fp32"), tmp_path, input_shape=SHAPE, aids=aids)
    assert files.graph == files.dense
    assert {layer["precision"] for layer in engine_facts(tmp_path)["build"]["layers"]} == {"fp32"}


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "sparse"), [("vgg16", True), ("wrn28-10", False), ("mobilenetv2", True)])
def test_other_architectures_build_in_half(architectures, tmp_path, arch, sparse):
    aids = ExportAids(dense=architectures.dense(arch))
    export_engine(network(arch), target(sparse=sparse), tmp_path, input_shape=SHAPE, aids=aids)
    precisions = [layer["precision"] for layer in engine_facts(tmp_path)["build"]["layers"]]
    assert (precisions[0], {*precisions[1:-1]}, precisions[-1]) == ("fp32", {"fp16"}, "fp32")


@pytest.mark.slow
def test_a_full_size_resnet18_builds(tmp_path):
    export_engine(network(width=1.0), target(), tmp_path, input_shape=SHAPE)
    assert len(engine_facts(tmp_path)["build"]["layers"]) == 21


def test_layers_that_fit_2_4_are_those_that_can_be_counted(tmp_path):
    def node(weight, shape):
        return helper.make_node("Constant", [], [weight], value=helper.make_tensor(weight, 1, shape, values[weight]))

    values = {"fits": [1.0, 1, 0, 0, 0, 0, 2, 2], "dense": [1.0, 1, 1, 0, 0, 0, 0, 1], "odd": [0.0] * 4}
    nodes = [
        node("fits", [2, 4]), node("dense", [4, 2]), node("odd", [2, 2]),
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("Gemm", ["flat", "fits", "w"], ["a"], transB=1, name="a"),
        helper.make_node("Gemm", ["a", "dense", "v"], ["b"], transB=1, name="b"),
        helper.make_node("Constant", [], ["v"], value=dense_weight([0.0] * 4, (4,))),
        helper.make_node("Gemm", ["b", "fits", "w"], ["c"], transB=1, name="c"),
        helper.make_node("MatMul", ["c", "odd"], ["logits"], name="d"),
    ]  # fmt: skip
    path = linear_onnx(dense_weight([0.0, 1], (2,)), tmp_path / "x.onnx", nodes=[nodes[6], *nodes[:6], *nodes[7:]])
    facts = build(path, target("tensorrt-rtx-fp32"), ExportAids()).facts
    assert [(layer.name, layer.fits_2_4) for layer in facts.layers] == [
        ("fits", True),
        ("dense", False),
        ("odd", False),
    ]


def test_a_graph_of_another_precision_is_refused_with_its_layers(architectures, tmp_path):
    dense, half = architectures.dense(), architectures.half()
    with pytest.raises(
        InputError, match=r"asks for fp16, but tensorrt-rtx \S+ computes 19 of 21 layers in another precision: net"
    ):
        build_into(tmp_path, dense, target(), ExportAids())
    with pytest.raises(InputError, match=r"for fp32, .* computes 19 of 21 layers in another precision: .* in fp16"):
        build_into(tmp_path, half, target("tensorrt-rtx-fp32"), ExportAids())
    assert not (tmp_path / "model.engine").exists()


def test_a_graph_that_the_parser_refuses_is_named_with_the_node(tmp_path):
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("Bernoulli", ["flat"], ["noise"], name="dice"),
        helper.make_node("MatMul", ["noise", "w"], ["logits"]),
    ]
    path = linear_onnx(dense_weight([1.0] * 8), tmp_path / "x.onnx", nodes=nodes)
    with pytest.raises(InputError, match=r"x\.onnx: TensorRT's ONNX parser refuses it: node 'dice' \(Bernoulli\)"):
        build(path, target(), ExportAids())


def test_a_sparse_file_is_refused_with_what_the_parser_says(tmp_path):
    path = linear_onnx(sparse_weight([1.0], [3]), tmp_path / "x.onnx")
    with pytest.raises(InputError, match=r"x\.onnx: TensorRT's ONNX parser refuses it: "):
        build(path, target(), ExportAids())


def test_damaged_files_are_refused_before_tensorrt_sees_them(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"not onnx")
    with pytest.raises(InputError, match=r"x\.onnx: not an ONNX file"):
        build(tmp_path / "x.onnx", target(), ExportAids())


def test_a_gpu_that_tensorrt_rtx_does_not_know_is_refused_with_those_it_knows(tmp_path, aids):
    with pytest.raises(InputError, match=r"capabilities: SM70 is not .*SM89.*, which tensorrt-rtx builds for"):
        export_engine(network(), target(capabilities=("SM70",)), tmp_path, input_shape=SHAPE, aids=aids)


def test_progress_is_told_and_an_interrupt_stops_the_builder(architectures):
    steps = []
    built = build(architectures.dense(), target(), ExportAids(progress=lambda *step: steps.append(step)))
    assert built.plan
    done, totals, _ = zip(*steps, strict=True)
    assert list(done) == list(range(1, len(steps) + 1))
    assert len(steps) <= totals[0] == totals[-1]

    def interrupt(done, total, label):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(architectures.dense(), target(), ExportAids(progress=interrupt))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_way_of_the_full_library_keeps_a_timing_cache_and_gives_its_digest(architectures, tmp_path, monkeypatch):
    # TensorRT itself needs a GPU to build; TensorRT-RTX has the same interface and keeps its caches empty.
    monkeypatch.setitem(library._LIBRARIES, "tensorrt", ("tensorrt_rtx", "tensorrt", "1.2"))
    library.load.cache_clear()
    cache = tmp_path / "timing.cache"
    wanted = load_target("tensorrt-fp32").model_copy(update={"hardware": "ampere-and-newer"})
    for _ in range(2):
        facts = build(architectures.dense(), wanted, ExportAids(timing_cache=cache)).facts
        assert facts.timing_cache == hashlib.sha256(cache.read_bytes()).hexdigest()
    assert (facts.library, facts.hardware) == ("tensorrt", "ampere-and-newer")
    cache.write_bytes(b"damaged")
    assert build(architectures.dense(), wanted, ExportAids(timing_cache=cache)).plan
    library.load.cache_clear()


@pytest.mark.slow
def test_nothing_is_printed(tmp_path, capfd):
    export_engine(network(), target(), tmp_path, input_shape=SHAPE)
    assert capfd.readouterr() == ("", "")


def test_the_shipped_targets_say_what_they_need():
    assert load_target("tensorrt-rtx-fp16").capabilities == ("SM80", "SM86", "SM89", "SM120")
    assert load_target("tensorrt-fp16").capabilities == ()
