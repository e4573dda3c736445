"""onnxruntime sessions that run on the requested provider or not at all."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path

import onnxruntime
from onnx import TensorProto, helper

from tscnc_deploy.errors import InputError, UnavailableError
from tscnc_deploy.text import not_among
from tscnc_deploy.threads import thread_count

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

# TF32 would not be true fp32. The heuristic search always picks the same algorithm; the default one times them.
_OPTIONS: dict[str, dict[str, str]] = {
    CPU: {},
    CUDA: {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
}
_FATAL_ONLY = 4


def open_session(data: bytes, path: Path, provider: str, threads: int | None) -> onnxruntime.InferenceSession:
    """Opens a model on one provider.

    Args:
        data: An ONNX file that `engines.onnx.file.parse_onnx` has accepted.
        path: Name of the file, for messages.
        provider: `CPU` or `CUDA`.
        threads: CPU threads of one call; None uses `threads.thread_count`.

    Raises:
        InputError: onnxruntime refuses the model, or does not know the provider.
        UnavailableError: The provider does not work on this machine.
    """
    require(provider)
    try:
        session = _session(data, provider, threads)
    except Exception as error:  # onnxruntime's exceptions have no common base class
        msg = f"{path}: onnxruntime refuses it: {one_line(error)}"
        raise InputError(msg) from error
    if provider not in session.get_providers():
        msg = f"{path}: onnxruntime would run it on {session.get_providers()[0]} instead of {provider}"
        raise UnavailableError(msg)
    return session


def _session(data: bytes, provider: str, threads: int | None) -> onnxruntime.InferenceSession:
    # Errors arrive as exceptions; the log would only repeat them on the user's terminal.
    onnxruntime.set_default_logger_severity(_FATAL_ONLY)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.use_deterministic_compute = True
    options.intra_op_num_threads = threads or thread_count()
    # Attacks alternate between an engine and its twin: spinning threads would take the cores from PyTorch.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(data, options, providers=[(provider, _OPTIONS[provider])], enable_fallback=0)


def require(provider: str) -> None:
    """Checks that a session can run on a provider; onnxruntime falls back to the CPU silently.

    Raises:
        InputError: The provider is unknown.
        UnavailableError: It does not work on this machine; the message says what to install.
    """
    if provider not in _OPTIONS:
        msg = f"onnxruntime provider {provider!r} {not_among(provider, _OPTIONS)}"
        raise InputError(msg)
    if provider == CPU:
        return
    if provider not in onnxruntime.get_available_providers():
        msg = (
            f"this onnxruntime was built without {provider}; "
            "run: pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
        )
        raise UnavailableError(msg)
    with redirect_stdout(io.StringIO()):  # it prints what it cannot find
        onnxruntime.preload_dlls()
    reason = "it falls back to the CPU"
    try:
        if provider in _session(_probe(), provider, threads=1).get_providers():
            return
    except Exception as error:
        reason = one_line(error)
    msg = (
        f"onnxruntime cannot use {provider} on this machine ({reason}); it needs an NVIDIA GPU with its driver, and "
        "CUDA and cuDNN: pip install 'onnxruntime-gpu[cuda,cudnn]'"
    )
    raise UnavailableError(msg)


def one_line(error: Exception) -> str:
    """The message of an onnxruntime exception, which may have many lines, as one line."""
    return " ".join(str(error).split())


def _probe() -> bytes:
    node = helper.make_node("Relu", ["x"], ["y"])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([node], "probe", [x], [y])
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)])
    return bytes(model.SerializeToString())
