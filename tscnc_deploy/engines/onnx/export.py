"""Exports a PyTorch model as one plain ONNX file, weight for weight.

The graph stays close to the model on purpose: every convolution and linear layer keeps the name and the exact bits of
its weight, and batch norms are not folded. So a reader can compare the file with the model, and the zeros are those of
the masks. Folding a norm into a convolution could add zeros (a gain of 0, an underflow); every runtime folds norms when
it opens the file.
"""

from __future__ import annotations

import copy
import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxscript import optimizer
from torch import nn
from torch.nn.utils import parametrize

from tscnc_deploy.engines.kind import ExportAids
from tscnc_deploy.engines.onnx.attention import plain_attention
from tscnc_deploy.engines.onnx.file import write_onnx
from tscnc_deploy.engines.onnx.pooling import plain_pooling
from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine
from tscnc_deploy.engines.onnx.signature import Signature
from tscnc_deploy.engines.onnx.tidy import (
    drop_casts,
    fix_sizes,
    name_weights,
    store_computed,
    store_constants,
    used_nodes,
    weight_names,
)
from tscnc_deploy.engines.onnx.translation import TRANSLATIONS
from tscnc_deploy.engines.target import Target
from tscnc_deploy.engines.torch_twin import TwinEngine
from tscnc_deploy.errors import InputError

OPSET = 20
# Introduced with opset 20 in ONNX 1.15. A newer version adds nothing useful here and excludes older runtimes.
IR_VERSION = 9
# Far above rounding errors and far below the error of a wrong graph; the target's own tolerance is checked later, on
# real images.
_WRONG = 1e-2


def export_onnx(
    model: nn.Module, path: str | Path, *, input_shape: tuple[int, int, int], batch_example: int = 2
) -> None:
    """Exports a model to an ONNX file with input "images" [batch, C, H, W] and output "logits" [batch, K].

    The same model gives the same bytes. The model is not changed: a copy on the CPU, in eval mode, is exported.
    The file is checked by `onnx.checker` and run by onnxruntime at batches 1, 2, 3 and `batch_example`.

    Args:
        model: Maps float32 images [N, C, H, W] in [0, 1] to logits [N, K]; parameters in float32.
        path: The file to write.
        input_shape: (C, H, W).
        batch_example: Batch size that the model is traced with; at least 2, as a batch of 1 would become a constant.

    Raises:
        InputError: The model cannot be exported with a dynamic batch size or contains values that are not finite, or
            the file does not compute the same logits as the model.
        StorageError: The file cannot be written.
    """
    if batch_example < 2:
        msg = f"batch_example = {batch_example}: a dynamic batch size needs at least 2"
        raise InputError(msg)
    path = Path(path)
    twin = _plain_copy(model)
    proto, classes = _graph(twin, input_shape, batch_example)
    reference = TwinEngine(twin, input_shape, classes)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        msg = f"{_name(twin)} gives an invalid ONNX graph: {error}"
        raise InputError(msg) from error
    write_onnx(proto, path)
    try:
        _compare(reference, path, sorted({1, 2, 3, batch_example}))
    except InputError:
        path.unlink()
        raise


def _plain_copy(model: nn.Module) -> nn.Module:
    """A copy on the CPU in eval mode, whose parametrised weights are the values that they have."""
    plain = copy.deepcopy(model).cpu().eval()
    for module in plain.modules():
        if not parametrize.is_parametrized(module):
            continue
        values = {name: getattr(module, name).detach() for name in cast(nn.ModuleDict, module.parametrizations)}
        # Not `remove_parametrizations`: it changes the class, which the copy shares with the model.
        module.__class__ = type(module).__bases__[0]
        del module.parametrizations
        for name, value in values.items():
            module.register_parameter(name, nn.Parameter(value))
    return plain


def write_dense(
    model: nn.Module, path: Path, target: Target, *, input_shape: tuple[int, int, int], aids: ExportAids
) -> None:
    """Writes the dense file of a target: `export_onnx`, or a copy of the one that the aids name."""
    if aids.dense is None:
        export_onnx(model, path, input_shape=input_shape, batch_example=target.batch_example)
    else:
        shutil.copyfile(aids.dense, path)


def _graph(model: nn.Module, input_shape: tuple[int, int, int], batch_example: int) -> tuple[ModelProto, int]:
    """The plain graph and its number of classes."""
    traced, names = _trace(model, input_shape, batch_example)
    classes = _classes(traced, model)
    return _plain(traced, names, input_shape, classes), classes


def _trace(
    model: nn.Module, input_shape: tuple[int, int, int], batch_example: int
) -> tuple[ModelProto, dict[str, str]]:
    """The traced model, and see `tidy.weight_names`."""
    with _quiet(), plain_pooling(), plain_attention(), torch.no_grad():
        try:
            program = torch.onnx.export(
                model,
                (torch.full((batch_example, *input_shape), 0.5),),
                dynamo=True,
                external_data=False,
                # The default optimisation folds norms and merges equal weights.
                optimize=False,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["logits"],
                custom_translation_table=TRANSLATIONS,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            cause = str(error.__cause__ or error).strip().splitlines()[0]
            msg = f"{_name(model)} cannot be exported to ONNX with a dynamic batch size: {cause}"
            raise InputError(msg) from error
        if program is None:
            msg = "torch.onnx.export returned no program"
            raise RuntimeError(msg)
        optimizer.inline(program.model)
        names = weight_names(model, program.model)
        optimizer.fold_constants(program.model)
        return program.model_proto, names


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _classes(traced: ModelProto, model: nn.Module) -> int:
    shapes = [output.type.tensor_type.shape.dim for output in traced.graph.output]
    if len(shapes) != 1 or len(shapes[0]) != 2 or shapes[0][0].dim_value or not shapes[0][1].dim_value:
        sizes = [[dim.dim_param or dim.dim_value for dim in shape] for shape in shapes]
        fixed = len(shapes) == 1 and len(shapes[0]) == 2 and shapes[0][0].dim_value
        hint = "; the batch size became a constant, as len(images) makes it: write images.shape[0]" if fixed else ""
        msg = f"{_name(model)} must return logits [batch, classes], but returns {sizes}{hint}"
        raise InputError(msg)
    return int(shapes[0][1].dim_value)


def _plain(traced: ModelProto, names: Mapping[str, str], input_shape: tuple[int, int, int], classes: int) -> ModelProto:
    """The traced model, rebuilt from only what determines its logits.

    This drops stack traces, paths of this machine, producer names and symbolic shapes.
    """
    store_constants(traced.graph)
    store_computed(traced, "images")
    name_weights(traced.graph, names)
    drop_casts(traced.graph)
    fix_sizes(traced, Signature("images", "logits", input_shape, classes, None))
    nodes = used_nodes(traced.graph)
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        [_plain_node(node) for node in nodes],
        "classifier",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", *input_shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])],
        [_plain_tensor(tensor) for tensor in traced.graph.initializer if tensor.name in used],
    )
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, producer_name="tscnc-deploy", ir_version=IR_VERSION, opset_imports=[opset])


def _plain_node(node: NodeProto) -> NodeProto:
    plain = NodeProto(op_type=node.op_type, domain=node.domain, name=node.name, input=node.input, output=node.output)
    plain.attribute.extend(sorted(node.attribute, key=attrgetter("name")))
    for attribute in plain.attribute:
        attribute.ClearField("doc_string")
    return plain


def _plain_tensor(tensor: TensorProto) -> TensorProto:
    array = numpy_helper.to_array(tensor)
    # Masking a negative weight gives a negative zero, which equals zero but compresses worse.
    return numpy_helper.from_array(array + 0 if array.dtype == np.float32 else array, tensor.name)


def _compare(reference: TwinEngine, path: Path, batches: list[int]) -> None:
    engine = OnnxRuntimeEngine(path)
    images = np.random.default_rng(0).random((batches[-1], *engine.spec.input_shape), np.float32)
    for batch in batches:
        expected = reference.logits(images[:batch])
        difference = float(np.abs(engine.logits(images[:batch]) - expected).max())
        if not difference <= _WRONG * max(1.0, float(np.abs(expected).max())):
            msg = f"{path}: logits of a batch of {batch} differ by {difference:g} from the model's"
            raise InputError(msg)


def _name(model: nn.Module) -> str:
    return type(model).__name__
