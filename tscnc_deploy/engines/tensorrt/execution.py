"""Runs a TensorRT engine: torch allocates its buffers on the GPU, and all work uses one stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tscnc_deploy.engines.base import Array, CheckedEngine, EngineSpec
from tscnc_deploy.engines.onnx.structure import overall_precision
from tscnc_deploy.engines.target import Target
from tscnc_deploy.engines.tensorrt import library
from tscnc_deploy.engines.tensorrt.facts import Facts
from tscnc_deploy.engines.tensorrt.inspector import inspect, layer_precisions
from tscnc_deploy.engines.tensorrt.log import new_logger, reasons
from tscnc_deploy.errors import InputError

if TYPE_CHECKING:
    pass

# Each recorded batch size has its own execution context, and with it a workspace on the GPU.
_MAX_GRAPHS = 4


class TensorRTEngine(CheckedEngine):
    """A deserialized engine on the GPU that torch uses.

    Its precision is read back from the engine itself. The first few batch sizes that occur a second time are recorded
    as CUDA graphs and replayed from then on.

    Args:
        plan: A serialized engine whose digest was checked.
        facts: The facts about it.
        target: Target that it was built for.
        source: Its origin, for messages.

    Raises:
        InputError: TensorRT does not open it, or its inputs and outputs do not match the facts.
    """

    def __init__(self, plan: bytes, facts: Facts, target: Target, source: str) -> None:
        import torch

        lib = library.load(target.engine)
        log = new_logger(lib)
        self._runtime = lib.Runtime(log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            msg = f"{source}: {target.engine} {lib.__version__} does not open it: {reasons(log)}"
            raise InputError(msg)
        self._lib = lib
        self._log = log  # TensorRT does not keep a reference to it
        self._source = source
        self._input, self._output = self._names(facts)
        batch_min, _, batch_max = facts.batch
        super().__init__(
            EngineSpec(
                name=target.name,
                kind=target.engine,
                input_shape=facts.input_shape,
                classes=facts.classes,
                precision=self._precision(facts),
                provider=f"{library.gpu_name()} ({library.gpu_capability()})",
                batch_min=batch_min,
                batch_max=batch_max,
            )
        )
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._images = torch.zeros((batch_max, *facts.input_shape), device="cuda")
        self._logits = torch.zeros((batch_max, facts.classes), device="cuda")
        self._host_images = torch.zeros((batch_max, *facts.input_shape), pin_memory=True)
        self._host_logits = torch.zeros((batch_max, facts.classes), pin_memory=True)
        self._context = self._new_context()
        self._record = target.cuda_graphs
        self._seen: set[int] = set()
        # Batch size -> the graph, and the context whose memory it works in.
        self._graphs: dict[int, tuple[Any, Any]] = {}

    def _run(self, images: Array) -> Array:
        import torch

        count = len(images)
        np.copyto(self._host_images[:count].numpy(), images)
        with torch.cuda.stream(self._stream):
            self._images[:count].copy_(self._host_images[:count], non_blocking=True)
            self._enqueue(count)
            self._host_logits[:count].copy_(self._logits[:count], non_blocking=True)
        self._stream.synchronize()
        return self._host_logits[:count].numpy().copy()

    def _enqueue(self, count: int) -> None:
        """Computes the logits of the first `count` images in the buffer, in order on the engine's stream."""
        if count in self._graphs:
            self._graphs[count][0].replay()
        elif self._can_record(count):
            self._graphs[count] = self._recorded(count)
            self._graphs[count][0].replay()
        else:
            self._seen.add(count)
            self._execute(self._context, count)

    def _can_record(self, count: int) -> bool:
        if not self._record or count not in self._seen or len(self._graphs) == _MAX_GRAPHS:
            return False
        # TensorRT-RTX may have to compile kernels first; TensorRT does not have this attribute.
        asks = getattr(self._context, "is_stream_capturable", None)
        return asks is None or bool(asks(self._stream.cuda_stream))

    def _recorded(self, count: int) -> tuple[Any, Any]:
        import torch

        context = self._new_context()
        # The first call after a change of shape updates the context's state, which must not be recorded.
        self._execute(context, count)
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            self._execute(context, count)
        return graph, context

    def _execute(self, context: Any, count: int) -> None:
        shaped = context.set_input_shape(self._input, (count, *self.spec.input_shape))
        if not shaped or not context.execute_async_v3(self._stream.cuda_stream):
            msg = f"{self._source}: {self.spec.kind} cannot run it on a batch of {count}"
            raise InputError(msg)

    def _new_context(self) -> Any:
        if self.spec.kind == "tensorrt-rtx":
            config = self._engine.create_runtime_config()
            # By default kernels are replaced by better ones while the engine runs, which would change the logits.
            config.dynamic_shapes_kernel_specialization_strategy = (
                self._lib.DynamicShapesKernelSpecializationStrategy.EAGER
            )
            context = self._engine.create_execution_context(config)
        else:
            context = self._engine.create_execution_context()
        if context is None:
            msg = f"{self._source}: {self.spec.kind} cannot run it: the GPU has too little free memory"
            raise InputError(msg)
        context.set_tensor_address(self._input, self._images.data_ptr())
        context.set_tensor_address(self._output, self._logits.data_ptr())
        return context

    def _names(self, facts: Facts) -> tuple[str, str]:
        engine, lib = self._engine, self._lib
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == lib.TensorIOMode.INPUT]
        outputs = [name for name in names if engine.get_tensor_mode(name) == lib.TensorIOMode.OUTPUT]
        found = [(tuple(engine.get_tensor_shape(name))[1:], engine.get_tensor_dtype(name)) for name in inputs + outputs]
        if found != [(facts.input_shape, lib.float32), ((facts.classes,), lib.float32)] or len(inputs) != 1:
            expected = f"one float32 input {list(facts.input_shape)} and one float32 output [{facts.classes}]"
            msg = f"{self._source}: must have {expected}, but has {found}"
            raise InputError(msg)
        return inputs[0], outputs[0]

    def _precision(self, facts: Facts) -> str:
        layers = inspect(self._lib, self._engine)
        names = [layer.precision for layer in facts.layers]
        sizes = {layer.name: (layer.node, layer.elements) for layer in facts.layers}
        found = [precision for precision, _ in layer_precisions(layers, sizes).values()]
        return overall_precision(names if "unknown" in found else found)
