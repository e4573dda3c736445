from __future__ import annotations

import pytest

from tests.engines.sparse_cpu.graphs import assert_same, available
from tscnc_deploy.engines.onnx.file import read_onnx
from tscnc_deploy.engines.onnx.sparse import write_sparse
from tscnc_deploy.engines.sparse_cpu.lowering import lower
from tscnc_deploy.engines.sparse_cpu.network import Kind
from tscnc_deploy.names import ARCHITECTURES

# Layers of each kind: what the graph's nodes are folded and fused into.
LAYERS = {
    "resnet18": {Kind.CONV: 21, Kind.MEAN: 1},
    "resnet34": {Kind.CONV: 37, Kind.MEAN: 1},
    "resnet50": {Kind.CONV: 54, Kind.MEAN: 1},
    # The mean over its last map of 1 x 1 pixels is no layer.
    "vgg16": {Kind.CONV: 14, Kind.MAX_POOL: 5},
    # The norms of pre-activation networks come after sums that are also read elsewhere.
    "wrn28-10": {Kind.CONV: 29, Kind.MEAN: 1, Kind.ELEMENTWISE: 12},
    "mobilenetv2": {Kind.CONV: 53, Kind.MEAN: 1},
    # Patches, positions, the head, and 12 blocks of two norms, six linear layers and two products around a softmax.
    "vit-tiny": {
        Kind.CONV: 74,
        Kind.MEAN: 1,
        Kind.ELEMENTWISE: 1,
        Kind.CONSTANT: 1,
        Kind.SOFTMAX: 12,
        Kind.LAYER_NORM: 25,
        Kind.MATMUL: 24,
    },
}


@pytest.fixture
def sparse(architectures, tmp_path):
    """Writes the file that the engine opens."""

    def write(arch, size=32, density=0.1):
        write_sparse(architectures.dense(arch, size, density), tmp_path / "sparse.onnx")
        return tmp_path / "sparse.onnx"

    return write


@pytest.mark.parametrize(
    "arch", [arch if arch == "resnet18" else pytest.param(arch, marks=pytest.mark.slow) for arch in LAYERS]
)
def test_every_architecture_agrees_with_onnxruntime(sparse, arch):
    path = sparse(arch)
    for instructions in available():
        assert_same(path, (1, 3, 8), instructions=instructions)
    assert_same(path, (1, 3, 64), threads=2)


@pytest.mark.parametrize("size", [9, 96])
@pytest.mark.parametrize("arch", ["resnet18", pytest.param("mobilenetv2", marks=pytest.mark.slow)])
def test_other_sizes_and_stems_agree_with_onnxruntime(sparse, arch, size):
    path = sparse(arch, size)
    for instructions in available():
        assert_same(path, (1, 2, 5), instructions=instructions)


def test_dense_networks_agree_with_onnxruntime(sparse):
    path = sparse("resnet18", 16, 1.0)
    for instructions in available():
        assert_same(path, (1, 8), instructions=instructions)


@pytest.mark.parametrize(
    "arch", [arch if arch in ("resnet18", "vgg16") else pytest.param(arch, marks=pytest.mark.slow) for arch in LAYERS]
)
def test_norms_sums_and_clamps_are_fused(sparse, arch):
    path = sparse(arch)
    network = lower(read_onnx(path), path)
    counts = {kind: sum(layer.kind is kind for layer in network.layers) for kind in Kind}
    assert {kind: count for kind, count in counts.items() if count} == LAYERS[arch] | {Kind.INPUT: 1}


def test_all_architectures_are_tested():
    # wrn34-10 is the form of wrn28-10 with more blocks.
    assert set(LAYERS) | {"wrn34-10"} == set(ARCHITECTURES)
