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
class Server:
    process: subprocess.Popen
    http: str  # host:port, as tritonclient takes it
    grpc: str
    document: dict


@contextmanager
def serving(bundle: Path, *arguments: str, log: Path | None = None, **environment: str) -> Iterator[Server]:
    command = ["tscnc_deploy", "serve", bundle, "--port", "0", "--grpc-port", "0", "--json", "--threads", "1"]
    with started([*map(str, command), *map(str, arguments)], log=log, **environment) as running:
        yield running


@contextmanager
def started(module: list[str], *, log: Path | None = None, **environment: str) -> Iterator[Server]:
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
        yield Server(process, document["http"].split("//")[1], document["grpc"].split("//")[1], document)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def memory(server: Server) -> int:
    """Bytes of its resident memory; 0 where the system does not tell."""
    path = Path(f"/proc/{server.process.pid}/statm")
    return int(path.read_text().split()[1]) * 4096 if path.exists() else 0


def peak_memory(server: Server) -> int:
    """Bytes of its largest resident memory so far."""
    line = next(line for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines() if "VmHWM" in line)
    return int(line.split()[1]) * 1024


def processor_seconds(server: Server) -> float:
    """Processor time that it has taken so far."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
