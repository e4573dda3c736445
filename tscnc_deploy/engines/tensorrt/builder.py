"""Builds a serialized engine from an ONNX file, and reads back what TensorRT built."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from onnx import ModelProto

from tscnc_deploy.digests import digest_of_bytes
from tscnc_deploy.engines.kind import ExportAids
from tscnc_deploy.engines.onnx.batch import require_independent_images
from tscnc_deploy.engines.onnx.file import array_of, parse_onnx
from tscnc_deploy.engines.onnx.limits import MAX_BYTES
from tscnc_deploy.engines.onnx.signature import Signature, signature_of
from tscnc_deploy.engines.onnx.structure import input_channel_axis, stored_weights, weighted_nodes
from tscnc_deploy.engines.target import Target
from tscnc_deploy.engines.tensorrt import library
from tscnc_deploy.engines.tensorrt.facts import Facts, LayerFacts
from tscnc_deploy.engines.tensorrt.inspector import InspectedLayer, inspect, layer_precisions, read_log
from tscnc_deploy.engines.tensorrt.log import new_logger, reasons
from tscnc_deploy.errors import InputError
from tscnc_deploy.files import Read, read_file, write_atomic


@dataclass(frozen=True)
class Built:
    """A serialized engine and the facts about it."""

    plan: bytes = field(repr=False)
    facts: Facts


def build(graph: Path, target: Target, aids: ExportAids, read: Read = read_file) -> Built:
    """Builds the engine of an ONNX file.

    Only the graph determines the types of the arithmetic (the network is strongly typed), and TF32 is off. The batch
    size is dynamic between the bounds of the target.

    Args:
        graph: Dense ONNX file with one float32 input and one float32 output; TensorRT's parser does not support
            sparse ones.
        target: Determines the library, the GPUs and the batch sizes; its precision is not used here.
        aids: Timing cache and progress.
        read: Returns the file's content.

    Raises:
        InputError: This package or TensorRT's parser refuses the file, or no engine can be built from it.
        UnavailableError: The library is missing.
        StorageError: The timing cache cannot be written.
    """
    lib = library.load(target.engine)
    library.check_capabilities(lib, target)
    data = read(graph, MAX_BYTES)
    model = parse_onnx(data, graph)
    signature = signature_of(model, graph)
    require_independent_images(model, signature, graph)
    log = new_logger(lib)
    builder = lib.Builder(log)
    network = builder.create_network(_flags(lib))
    _parse(lib, data, graph, network, log)
    config = _configure(lib, builder, signature, target)
    cache = aids.timing_cache if target.engine == "tensorrt" else None  # TensorRT-RTX measures nothing
    if cache:
        _read_timing_cache(config, cache)
    with _monitored(lib, config, aids):
        plan = builder.build_serialized_network(network, config)
    if plan is None:
        msg = f"{graph}: {target.engine} {lib.__version__} cannot build an engine from it: {reasons(log)}"
        raise InputError(msg)
    plan = bytes(plan)
    gpu = library.gpu_capability()
    # Without a GPU the engine cannot be opened, and the builder's log is the only source of information.
    opened = lib.Runtime(log).deserialize_cuda_engine(plan) if gpu else None
    layers = inspect(lib, opened) if opened else read_log(log.kept)
    facts = Facts(
        library=target.engine,
        version=lib.__version__,
        made_for=target.capabilities or (str(gpu),),
        hardware=target.hardware,
        gpu=library.gpu_name() if gpu else None,
        input_shape=signature.input_shape,
        classes=signature.classes,
        batch=_batches(signature, target),
        layers=layer_facts(model, layers, log.kept),
        workspace_bytes=_workspace(log.kept),
        timing_cache=_write_timing_cache(config, cache) if cache else None,
        plan=digest_of_bytes(plan),
        plan_bytes=len(plan),
        graph=digest_of_bytes(data),
    )
    return Built(plan, facts)


def layer_facts(
    model: ModelProto, layers: list[InspectedLayer], messages: list[str] | None = None
) -> tuple[LayerFacts, ...]:
    """What TensorRT reports about each convolution and linear layer of a graph.

    Args:
        model: The graph.
        layers: Layers of the engine.
        messages: Messages of the builder, which list the layers that run sparse if the inspector does not.
    """
    nodes = model.graph.node
    uses = {weight: nodes[place] for place, weight in reversed(weighted_nodes(model.graph).items())}
    stored = stored_weights(model.graph)
    sizes = {
        weight: (node.name or f"node_of_{node.output[0]}", int(np.prod(stored[weight].dims)))
        for weight, node in uses.items()
    }
    found = layer_precisions(layers, sizes)
    picked = _picked_sparse(messages or [])
    return tuple(
        LayerFacts(
            name=weight,
            node=sizes[weight][0],
            elements=sizes[weight][1],
            precision=found[weight][0],
            fits_2_4=fits_2_4(array_of(stored[weight]), input_channel_axis(uses[weight])),
            sparse_kernel=found[weight][1] if picked is None else sizes[weight][0] in picked,
        )
        for weight in dict.fromkeys(weighted_nodes(model.graph).values())
    )


def fits_2_4(weight: np.ndarray[Any, Any], axis: int) -> bool:
    """Whether at most 2 of every 4 weights along an axis are non-zero; False if 4 does not divide the axis."""
    if weight.shape[axis] % 4:
        return False
    groups = np.moveaxis(weight != 0, axis, -1).reshape(-1, 4)
    return bool((groups.sum(1) <= 2).all())


def _flags(lib: ModuleType) -> int:
    # TensorRT 11 is always strongly typed and ignores the flag; without it, TensorRT 10 would choose the types.
    flag = lib.NetworkDefinitionCreationFlag.__members__.get("STRONGLY_TYPED")
    return 0 if flag is None else 1 << int(flag)


def _parse(lib: ModuleType, data: bytes, graph: Path, network: Any, log: Any) -> None:
    parser = lib.OnnxParser(network, log)
    if not parser.parse(data):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        found = "; ".join(f"node {e.node_name()!r} ({e.node_operator()}): {e.desc()}" for e in errors)
        msg = f"{graph}: TensorRT's ONNX parser refuses it: {found or reasons(log)}"
        raise InputError(msg)


def _configure(lib: ModuleType, builder: Any, signature: Signature, target: Target) -> Any:
    config = builder.create_builder_config()
    # TF32 is on by default, and would not be true fp32.
    config.clear_flag(lib.BuilderFlag.TF32)
    if target.sparse:
        config.set_flag(lib.BuilderFlag.SPARSE_WEIGHTS)
    # Include the types of the layers in the inspector's output and in the log.
    config.profiling_verbosity = lib.ProfilingVerbosity.DETAILED
    profile = builder.create_optimization_profile()
    shapes = [(batch, *signature.input_shape) for batch in _batches(signature, target)]
    profile.set_shape(signature.input, *shapes)
    config.add_optimization_profile(profile)
    if target.engine == "tensorrt-rtx":
        chosen = target.capabilities or ("CURRENT",)
        config.num_compute_capabilities = len(chosen)
        for index, name in enumerate(chosen):
            config.set_compute_capability(lib.ComputeCapability.__members__[name], index)
    else:
        levels = {"this-gpu": "NONE", "same-capability": "SAME_COMPUTE_CAPABILITY", "ampere-and-newer": "AMPERE_PLUS"}
        config.hardware_compatibility_level = getattr(lib.HardwareCompatibilityLevel, levels[target.hardware])
    return config


def _batches(signature: Signature, target: Target) -> tuple[int, int, int]:
    if signature.batch:
        return (signature.batch,) * 3
    return target.batch_min, target.optimal_batch, target.batch_max


def _read_timing_cache(config: Any, path: Path) -> None:
    stored = path.read_bytes() if path.is_file() else b""
    # TensorRT logs that it ignores a cache of another GPU or version, and measures again.
    if not config.set_timing_cache(config.create_timing_cache(stored), ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _write_timing_cache(config: Any, path: Path) -> str:
    data = bytes(config.get_timing_cache().serialize())
    write_atomic(path, data)
    return digest_of_bytes(data)


def _workspace(messages: list[str]) -> int | None:
    sizes = [int(found[1]) for text in messages if (found := re.search(r"Total Activation Memory: (\d+) bytes", text))]
    return max(sizes, default=None)


def _picked_sparse(messages: list[str]) -> set[str] | None:
    """Names of the layers that run sparse according to the builder; None if it logs nothing about it."""
    lines = [text for text in messages if "picked sparse implementation" in text]
    if not lines:
        return None
    # A layer of the engine is named after the nodes in it, joined by " + ".
    return {name for line in lines for name in re.split(r",\s*|\s\+\s", line.partition("layers:")[2].strip()) if name}


@contextmanager
def _monitored(lib: ModuleType, config: Any, aids: ExportAids) -> Iterator[None]:
    """Reports the builder's progress; an interrupt first stops the builder and is raised after it has returned."""

    class Monitor(lib.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.steps: dict[str, int] = {}
            self.caught: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.steps[phase_name] = num_steps

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            # An exception must not propagate through TensorRT's C++ code.
            try:
                if phase_name in self.steps and self.caught is None:
                    aids.progress(step + 1, self.steps[phase_name], phase_name.lower())
            except BaseException as error:
                self.caught = error
            return self.caught is None

    monitor = Monitor()
    config.progress_monitor = monitor
    yield
    if monitor.caught is not None:
        raise monitor.caught
