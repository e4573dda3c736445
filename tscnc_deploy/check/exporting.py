"""Exports a twin again: here, or ahead of time in a process of its own while other checks run.

The export is Python on one core for as long as all other checks that attack nothing, and PyTorch's tracing changes
modules for the whole process, so a thread would not do.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from tscnc_deploy.bundle.manifest import TWIN
from tscnc_deploy.errors import InputError
from tscnc_deploy.text import escaped

if TYPE_CHECKING:
    from onnx import ModelProto

    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.models import Classifier

# Graphs of the twins that were exported last, by the digest of the twin's file.
_exported: dict[str, ModelProto] = {}
_KEPT = 2


class TwinGraphs:
    """The graphs of a bundle's twins; as a context manager it ends what it started.

    Args:
        bundle: Contains the twins.
        ahead: Whether to begin with the export of the bundle's twin now, in another process. Where that is impossible,
            or fails, the twin is exported here when its graph is needed.
    """

    def __init__(self, bundle: Bundle, *, ahead: bool) -> None:
        self._bundle = bundle
        self._process: subprocess.Popen[bytes] | None = None
        self._written = -1
        self._threads = 0
        if ahead and self._digest(TWIN) not in _exported and hasattr(os, "memfd_create"):
            self._start()

    def __enter__(self) -> TwinGraphs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None:
            self._process.kill()
            self._ended()
            os.close(self._written)
            self._process = None

    def graph(self, twin: str) -> ModelProto | str:
        """The graph of a twin, or why there is none.

        Args:
            twin: Path of its file in the bundle.

        Raises:
            BundleError: The file is damaged.
        """
        digest = self._digest(twin)
        if digest not in _exported:
            graph = self._exported_ahead() if twin == TWIN else None
            if graph is None:
                made = export_again(open_twin(self._bundle, twin), twin)
                if isinstance(made, str):
                    return made
                graph = made
            while len(_exported) >= _KEPT:
                _exported.pop(next(iter(_exported)))
            _exported[digest] = graph
        return _exported[digest]

    def _digest(self, twin: str) -> str:
        return self._bundle.manifest.files[twin].sha256

    def _start(self) -> None:
        """Starts a process that reads the twin and writes the graph; both stay in memory, as nothing may be writable.

        The twin's bytes are those whose digest was compared.
        """
        data = self._bundle.read(TWIN)
        given = os.memfd_create("twin")
        self._written = os.memfd_create("graph")
        try:
            with os.fdopen(os.dup(given), "wb") as file:
                file.write(data)
            os.lseek(given, 0, os.SEEK_SET)
            one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TSCNC_THREADS"), "1")
            self._process = subprocess.Popen(
                # -P: not from the folder in which the check runs. A session of its own: Ctrl-C is for this process.
                [sys.executable, "-P", "-m", __name__],
                stdin=given,
                stdout=self._written,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env=os.environ | one,
            )
            self._share_cores()
        except OSError:
            os.close(self._written)
        finally:
            os.close(given)

    def _share_cores(self) -> None:
        """Leaves a core to the other process: threads that wait for each other are slow without one each."""
        import torch

        self._threads = torch.get_num_threads()
        torch.set_num_threads(max(self._threads - 1, 1))

    def _ended(self) -> int:
        """Waits for the other process, and takes its core back."""
        import torch

        assert self._process is not None
        status = self._process.wait()
        torch.set_num_threads(self._threads)
        return status

    def _exported_ahead(self) -> ModelProto | None:
        """The other process's graph; None if it failed or was not started."""
        from onnx import ModelProto

        if self._process is None or self._ended() != 0:
            return None
        os.lseek(self._written, 0, os.SEEK_SET)
        with os.fdopen(os.dup(self._written), "rb") as file:
            return ModelProto.FromString(file.read())


def open_twin(bundle: Bundle, twin: str) -> Classifier:
    """A twin by its path in the bundle.

    Raises:
        BundleError: The file is damaged.
    """
    from tscnc_deploy.models import load_model

    if twin == TWIN:
        return bundle.twin  # type: ignore[return-value]
    return load_model(bundle.path / twin, lambda path, limit: bundle.read(twin, limit))


def export_again(model: Classifier, path: str) -> ModelProto | str:
    """The graph of a twin, or why it cannot be exported; nothing that the twin does is an exception here.

    Args:
        model: The twin.
        path: Its file, for the message.
    """
    from tscnc_deploy.engines.onnx.export import export_graph
    from tscnc_deploy.engines.onnx.limits import MAX_ALIVE

    if math.prod(model.config.input_shape) > MAX_ALIVE:
        return f"{path} is for images {list(model.config.input_shape)}, which no engine takes"
    try:
        return export_graph(model, input_shape=model.config.input_shape)
    except Exception as error:  # PyTorch's exporter has no base class for its errors
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"{path} cannot be exported again: {escaped(cause, 300)}"


def _export_for_another() -> int:
    """Reads a twin from standard input and writes its graph to standard output."""
    from tscnc_deploy.models import load_model

    output = os.dup(1)
    os.dup2(2, 1)  # libraries print too
    try:
        model = load_model(Path(TWIN), lambda path, limit: sys.stdin.buffer.read())
    except InputError:
        return 1
    graph = export_again(model, TWIN)
    if isinstance(graph, str):
        return 1
    with os.fdopen(output, "wb") as file:
        file.write(graph.SerializeToString())
    return 0


if __name__ == "__main__":
    sys.exit(_export_for_another())
