"""The tests' end of `server`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

SECONDS, BYTES = 2.0, 500e6
STATUSES = (0, 1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        status: Its exit status; negative for the signal that ended it.
        seconds: CPU time, imports of libraries excluded, so that a busy machine changes nothing.
        bytes: Peak of resident memory, beyond what the imports take.
        stdout: What it said.
        stderr: And what it said was wrong.
    """

    status: int
    seconds: float
    bytes: int
    stdout: str
    stderr: str

    def require_civil(self) -> None:
        """One of the statuses of the command line, no traceback, nothing for a terminal to obey."""
        assert self.status in STATUSES, self
        assert "Traceback" not in self.stderr, self
        assert all(line.isprintable() for line in self.stderr.splitlines()), self

    def require_cheap(self) -> None:
        """Within what a refusal may cost."""
        assert self.seconds < SECONDS, self
        assert self.bytes < BYTES, self


class Box:
    """Runs commands in children of one process that has imported everything.

    Args:
        folder: Where each command gets a folder of its own, the only place where it may write.
        honest: A bundle with nothing wrong.
    """

    def __init__(self, folder: Path, honest: Path) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2", "PYTHONPATH": str(Path.cwd())}
        self._folder = folder
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.server", str(honest)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def run(self, *argv: object) -> Outcome:
        """Runs `tscnc-deploy ARGV`, or ("everything", FOLDER), in a folder of its own."""
        assert self._server.stdin and self._server.stdout
        with tempfile.TemporaryDirectory(dir=self._folder) as scratch:
            request = {"argv": [str(argument) for argument in argv], "scratch": scratch}
            self._server.stdin.write(json.dumps(request) + "\n")
            self._server.stdin.flush()
            answer = json.loads(self._server.stdout.readline())
            said = [Path(scratch, name).read_text(errors="replace") for name in ("stdout", "stderr")]
        return Outcome(answer["status"], answer["seconds"], answer["bytes"], *said)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.communicate()
