"""A third-party ONNX file, alone or with the PyTorch model that it was exported from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tscnc_deploy.digests import digest_of_file, digest_of_parts
from tscnc_deploy.errors import InputError, UnavailableError
from tscnc_deploy.verify.sources.base import IOSpec, Source, ready
from tscnc_deploy.verify.values import check_normalization

if TYPE_CHECKING:
    from tscnc_deploy.engines.base import Array, CheckedEngine
    from tscnc_deploy.engines.onnx.differentiable.parity import GraphParity
    from tscnc_deploy.engines.onnx.foreign import Adopted
    from tscnc_deploy.engines.onnx.reading import Reading
    from tscnc_deploy.robustness import Victim

_SAMPLES = 64


@dataclass(frozen=True)
class OnnxSource:
    """See `Source`: any image classifier that somebody exported, see `engines.onnx.foreign`.

    Without a twin, and if its own graph gives no gradients, the file is attacked as a black box.

    Attributes:
        path: The file, dense or sparse, with a dynamic or fixed batch size.
        mean: Per channel, or one for all, subtracted from pixels in the file's range; None if it normalises its input.
        std: Likewise, the divisor after that; given if and only if mean is.
        order: For each class of the data set, the index of its logit, see `order_of`; None keeps the order.
        twin: The PyTorch model; takes pixels in [0, 1] and returns logits in the data set's order.
        threads: CPU threads for one call; None uses `threads.thread_count`.
        reading: How to read the file; None finds out.
        own_gradient: Whether the file's own graph is its twin; `own_gradient_parity` says whether it may be.

    Raises:
        InputError: Mean without std, or std without mean.
    """

    path: Path
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    order: tuple[int, ...] | None = None
    twin: Source | None = None
    threads: int | None = None
    reading: Reading | None = None
    own_gradient: bool = False

    def __post_init__(self) -> None:
        check_normalization(self.mean, self.std)

    @property
    def name(self) -> str:
        """See `Source.name`."""
        return self.path.stem

    def adopted(self) -> Adopted:
        """The file as it is run.

        Raises:
            InputError: See `foreign.adopt`.
        """
        from tscnc_deploy.engines.onnx.foreign import adopt

        return adopt(self.path, self.reading, mean=self.mean, std=self.std, order=self.order)

    def form(self) -> IOSpec:
        """See `Source.form`; refuses files whose inputs or outputs `open` would refuse."""
        from tscnc_deploy.engines.onnx.signature import signature_of

        signature = signature_of(self.adopted().model, self.path)
        return IOSpec(signature.input_shape, signature.classes)

    def open(self, device: str) -> Victim:
        """See `Source.open`; uses a GPU if the device is one and onnxruntime supports it, otherwise the CPU."""
        from tscnc_deploy.robustness import BlackBoxVictim, EngineVictim, ModelVictim

        adopted = self.adopted()
        engine = self._engine(adopted, device)
        if self.twin is None:
            if not self.own_gradient:
                return BlackBoxVictim(engine)
            from tscnc_deploy.engines.onnx.differentiable.graph import GraphModule

            return EngineVictim(engine, ready(GraphModule(adopted.model, self.path), device))
        form = IOSpec(engine.spec.input_shape, engine.spec.classes)
        if (other := self.twin.form()) != form:
            msg = f"{self.path}: maps {form}, but its twin {self.twin.name} maps {other}"
            raise InputError(msg)
        twin = self.twin.open(device)
        if not isinstance(twin, ModelVictim):
            msg = f"{self.path}: its twin {self.twin.name} has no gradient; a twin must be a PyTorch model"
            raise InputError(msg)
        return EngineVictim(engine, twin.module)

    def logits(self, images: Array) -> Array:
        """The logits of images, float32 [N, C, H, W] in [0, 1] -> float32 [N, K], on the CPU."""
        return self._engine(self.adopted(), "cpu").logits(images)

    def twin_agreement(self, images: Array) -> tuple[int, int]:
        """On how many of at most 64 images the twin and the file give the same label, and on how many they were asked.

        Raises:
            InputError: There is no twin, or it does not fit.
        """
        import torch

        from tscnc_deploy.robustness import EngineVictim

        victim = self.open("cpu")
        if not isinstance(victim, EngineVictim):
            msg = f"{self.path}: there is no twin to compare with"
            raise InputError(msg)
        with torch.no_grad():
            file, twin = victim.both(torch.from_numpy(images[:_SAMPLES]))
        return int((file.argmax(1) == twin.argmax(1)).sum()), len(file)

    def own_gradient_parity(self, images: Array) -> tuple[GraphParity, int]:
        """Compares the file's own graph, read differentiably, with the runtime, on at most 64 images.

        Args:
            images: float32 [N, C, H, W] in [0, 1], at least one.

        Returns:
            The comparison, and the number of elements that the graph computes for each image.

        Raises:
            InputError: The graph has an operator without a gradient here; the message names the node.
        """
        from tscnc_deploy.engines.onnx.differentiable.graph import GraphModule
        from tscnc_deploy.engines.onnx.differentiable.parity import compare_with_runtime

        adopted = self.adopted()
        module = GraphModule(adopted.model, self.path)
        engine = self._engine(adopted, "cpu")
        return compare_with_runtime(module, engine, images[:_SAMPLES], adopted.model), module.elements

    def digest(self) -> str:
        """See `Source.digest`; covers the files beside it that hold its weights."""
        from tscnc_deploy.engines.onnx.external import files_beside

        return digest_of_parts(
            kind="onnx",
            file=digest_of_file(self.path),
            weights=[digest_of_file(file) for file in files_beside(self.path)],
            mean=self.mean,
            std=self.std,
            order=self.order,
            twin=self.twin.digest() if self.twin else None,
            reading=asdict(self.reading) if self.reading else None,
            own_gradient=self.own_gradient,
        )

    def _engine(self, adopted: Adopted, device: str) -> CheckedEngine:
        from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(
            self.path,
            provider=_provider(device),
            threads=self.threads,
            read=lambda *_: adopted.data,
            contrib=bool(self.reading and self.reading.contrib),
        )


def _provider(device: str) -> str:
    from tscnc_deploy.engines.onnx.session import CPU, CUDA, require

    if not device.startswith("cuda"):
        return CPU
    try:
        require(CUDA)
    except UnavailableError:
        return CPU
    return CUDA
