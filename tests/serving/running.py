"""A server in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Running:
    process: subprocess.Popen
    http: str  # host:port, as tritonclient takes it
    grpc: str
    document: dict


@contextmanager
def serving(bundle: Path, *arguments: str, log: Path | None = None, **environment: str) -> Iterator[Running]:
    command = ["tscnc_deploy", "serve", bundle, "--port", "0", "--grpc-port", "0", "--json", "--threads", "1"]
    with started([*map(str, command), *map(str, arguments)], log=log, **environment) as running:
        yield running


@contextmanager
def started(module: list[str], *, log: Path | None = None, **environment: str) -> Iterator[Running]:
    """Runs a module that prints its addresses when it is ready."""
    variables = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | environment
    with (log or Path(os.devnull)).open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", *module],
            stdout=subprocess.PIPE, stderr=errors, text=True, env=variables, cwd=ROOT,
        )  # fmt: skip
    try:
        text = ""
        while not text.endswith("}\n"):
            line = process.stdout.readline()
            assert line, f"the server ended with status {process.wait()}"
            text += line
        document = json.loads(text)
        yield Running(process, document["http"].split("//")[1], document["grpc"].split("//")[1], document)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
