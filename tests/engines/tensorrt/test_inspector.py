from __future__ import annotations

import json

from tscnc_deploy.engines.onnx.file import read_onnx
from tscnc_deploy.engines.onnx.structure import weighted_nodes
from tscnc_deploy.engines.tensorrt.builder import layer_facts
from tscnc_deploy.engines.tensorrt.inspector import InspectedLayer, Tensor, layer_precisions, read_json, read_log

# As TensorRT-RTX 1.7 logs them, shortened.
LOG = (
    "Layers:\n"
    "Name: __mye1_myl0_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, "
    "Metadata: \n"
    "Name: __myl_CorrMulAddRelu_myl0_2, LayerType: runtime_fusion, Inputs: [ { Name: x, Dimensions: [-1,3,32,32], "
    "Strides: [3072,1,96,3], StrideOrder: [3,0,2,1], Datatype: Half, Format: (NHWC) Channel major format }], "
    "Constants: [ { Name: scale, Dimensions: [1,16,1,1], Strides: [16,1,16,16], StrideOrder: [3,0,2,1], "
    "Datatype: Float, Format: (NHWC) Channel major format }, { Name: w, Dimensions: [16,3,3,3], Strides: [27,1,9,3], "
    "StrideOrder: [3,0,2,1], Datatype: Half, Format: (NHWC) Channel major format }], Outputs: [ { Name: y, "
    "Dimensions: [-1,16,32,32], Strides: [1,1,1,1], StrideOrder: [3,0,2,1], Datatype: Half, Format: (NHWC) }], "
    "TacticName: , StreamId: 0, Metadata: [ONNX Layer: conv][ONNX Layer: norm]\n"
    "\nI/O Tensors:\n Name: images, IOMode: Input, DataType: Float"
)


def test_the_log_of_the_builder():
    empty, conv = read_log(["(Sparsity) nothing", LOG])
    assert (empty.type, empty.onnx_names, empty.inputs) == ("shape_call", (), ())
    assert conv.onnx_names == ("conv", "norm")
    assert conv.inputs == (Tensor(-3 * 32 * 32, "fp16"),)
    assert conv.constants == (Tensor(16, "fp32"), Tensor(432, "fp16"))
    assert read_log(["no layers"]) == []


def test_the_json_of_the_inspector_in_its_newer_and_its_older_form():
    text = json.dumps(
        {
            "Layers": [
                {
                    "Name": "conv + relu",
                    "LayerType": "CaskConvolution",
                    "Inputs": [{"Name": "x", "Dimensions": [-1, 3, 8, 8], "Format/Datatype": "Half NHWC8"}],
                    "Outputs": [],
                    "Weights": {"Type": "Half", "Count": 432},
                    "HasSparseWeights": 1,
                    "TacticName": "sm80_xmma_fprop_sparse_conv",
                    "Metadata": "[ONNX Layer: conv]\x1e[ONNX Layer: relu]",
                },
                {
                    "Name": "fc",
                    "LayerType": "kgen",
                    "Inputs": [{"Name": "y", "Dimensions": [-1, 128], "Datatype": "Float", "Format": "Linear"}],
                    "Constants": [{"Name": "w", "Dimensions": [128, 10], "Datatype": "Float"}],
                    "Metadata": "[ONNX Layer: fc]",
                },
                "a layer of an engine built without detail",
            ],
            "I/O Tensors": [],
        }
    )
    layers = read_json(text)
    found = layer_precisions(layers, {"a": ("conv", 432), "b": ("fc", 1280), "c": ("elsewhere", 3)})
    assert found == {"a": ("fp16", True), "b": ("fp32", None), "c": ("unknown", None)}


def test_a_weight_and_activations_of_different_types_are_no_one_precision():
    layer = InspectedLayer("l", "t", ("n",), (Tensor(-3, "fp32"),), (Tensor(432, "int8"),), None)
    assert layer.precision_with(432) == "fp32+int8"
    assert layer.precision_with(7) is None
    assert layer_precisions([layer], {"w": ("n", 7)}) == {"w": ("unknown", None)}


def test_layers_that_the_builder_says_it_runs_sparse(small_files):
    model = read_onnx(small_files.dense)
    first, second, head = (model.graph.node[place].name for place in sorted(weighted_nodes(model.graph)))
    message = f"(Sparsity) TRT inference plan picked sparse implementation for layers: {second} + relu6, {head}"
    facts = layer_facts(model, [], ["(Sparsity) Layers eligible for sparse math: all", message])
    assert [(layer.node, layer.sparse_kernel) for layer in facts] == [(first, False), (second, True), (head, True)]
    assert [layer.precision for layer in facts] == ["unknown"] * 3
    assert {layer.sparse_kernel for layer in layer_facts(model, [], [])} == {None}
