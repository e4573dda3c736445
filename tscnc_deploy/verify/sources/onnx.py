"""A third-party ONNX file, alone or with the PyTorch model that it was exported from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tscnc_deploy.digests import digest_of_file, digest_of_parts
from tscnc_deploy.errors import InputError, UnavailableError
from tscnc_deploy.verify.sources.base import IOSpec, Source
from tscnc_deploy.verify.values import check_normalization

if TYPE_CHECKING:
    from onnx import ModelProto

    from tscnc_deploy.engines.base import CheckedEngine
    from tscnc_deploy.robustness import Victim

_PROBABILITIES = ("Softmax", "Sigmoid", "HardSigmoid")
# Nodes that pass values on unchanged, so the preceding node determines the kind of output.
_PASSING = (
    "Cast",
    "DequantizeLinear",
    "Dropout",
    "Flatten",
    "Identity",
    "QuantizeLinear",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
)


@dataclass(frozen=True)
class OnnxSource:
    """See `Source`. The file has one float32 input [batch, C, H, W] and one float32 output [batch, K] of logits.

    Without a twin there are no gradients, and the file is attacked as a black box.

    Attributes:
        path: The file, dense or sparse, with a dynamic or fixed batch size, without external data.
        mean: Per channel, or one for all, subtracted from pixels in [0, 1]; None if the file normalises its input.
        std: Likewise, the divisor after that; given if and only if mean is.
        order: For each class of the data set, the index of its logit, see `order_of`; None keeps the order.
        twin: The PyTorch model; takes pixels in [0, 1] and returns logits in the data set's order.
        threads: CPU threads for one call; None uses `threads.thread_count`.

    Raises:
        InputError: Mean without std, or std without mean.
    """

    path: Path
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    order: tuple[int, ...] | None = None
    twin: Source | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        check_normalization(self.mean, self.std)

    @property
    def name(self) -> str:
        """See `Source.name`."""
        return self.path.stem

    def form(self) -> IOSpec:
        """See `Source.form`; refuses files whose inputs or outputs `open` would refuse."""
        from tscnc_deploy.engines.onnx.file import read_onnx
        from tscnc_deploy.engines.onnx.signature import signature_of

        model = read_onnx(self.path)
        signature = signature_of(model, self.path)
        _refuse_channels_last(signature.input_shape, self.path)
        _refuse_probabilities(model, self.path)
        return IOSpec(signature.input_shape, signature.classes if self.order is None else len(self.order))

    def open(self, device: str) -> Victim:
        """See `Source.open`; uses a GPU if the device is one and onnxruntime supports it, otherwise the CPU."""
        from tscnc_deploy.robustness import BlackBoxVictim, EngineVictim, ModelVictim

        form = self.form()
        engine = self._engine(device)
        if self.twin is None:
            return BlackBoxVictim(engine)
        if (other := self.twin.form()) != form:
            msg = f"{self.path}: maps {form}, but its twin {self.twin.name} maps {other}"
            raise InputError(msg)
        twin = self.twin.open(device)
        if not isinstance(twin, ModelVictim):
            msg = f"{self.path}: its twin {self.twin.name} has no gradient; a twin must be a PyTorch model"
            raise InputError(msg)
        return EngineVictim(engine, twin.module)

    def digest(self) -> str:
        """See `Source.digest`."""
        return digest_of_parts(
            kind="onnx",
            file=digest_of_file(self.path),
            mean=self.mean,
            std=self.std,
            order=self.order,
            twin=self.twin.digest() if self.twin else None,
        )

    def _engine(self, device: str) -> CheckedEngine:
        from tscnc_deploy.engines.adapted import AdaptedEngine
        from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine

        engine = OnnxRuntimeEngine(self.path, provider=_provider(device), threads=self.threads)
        if self.mean is None and self.order is None:
            return engine
        return AdaptedEngine(engine, mean=self.mean or (0.0,), std=self.std or (1.0,), order=self.order)


def _provider(device: str) -> str:
    from tscnc_deploy.engines.onnx.session import CPU, CUDA, require

    if not device.startswith("cuda"):
        return CPU
    try:
        require(CUDA)
    except UnavailableError:
        return CPU
    return CUDA


def _refuse_channels_last(input_shape: tuple[int, int, int], path: Path) -> None:
    channels, height, width = input_shape
    if min(channels, height) > 4 and width in (1, 3):
        msg = (
            f"{path}: its input [batch, {channels}, {height}, {width}] has the channels last; export it with float32 "
            f"[batch, channels, height, width], here [batch, {width}, {channels}, {height}]"
        )
        raise InputError(msg)


def _refuse_probabilities(model: ModelProto, path: Path) -> None:
    # Checked here, because a subset of the outputs no longer shows that all of them sum to 1.
    makers = {output: node for node in model.graph.node for output in node.output}
    node = makers.get(model.graph.output[0].name)
    for _ in model.graph.node:  # no chain is longer, even if the nodes form a cycle
        if node is None or node.op_type not in _PASSING:
            break
        node = makers.get(node.input[0]) if node.input else None
    if node is not None and node.op_type in _PROBABILITIES:
        msg = (
            f"{path}: ends in a {node.op_type}, so it returns probabilities, whose rounding hides how close an attack "
            f"is; export it without the {node.op_type}, so that it returns logits"
        )
        raise InputError(msg)
