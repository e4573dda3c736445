"""Writes the programs of small networks as seeds of the fuzzer: python seeds.py FOLDER."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.engines.sparse_cpu.graphs import write_graph
from tests.engines.sparse_cpu.test_fuzz import networks
from tscnc_deploy.engines.onnx.file import read_onnx
from tscnc_deploy.engines.sparse_cpu.lowering import lower
from tscnc_deploy.engines.sparse_cpu.program import write_program


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    written = 0

    @seed(0)
    @settings(
        max_examples=240, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=HealthCheck
    )
    @given(network=networks())
    def write(network):
        nonlocal written
        nodes, constants, shape, classes = network
        with tempfile.TemporaryDirectory() as scratch:
            path = write_graph(Path(scratch) / "model.onnx", nodes, constants, shape, classes)
            program = write_program(lower(read_onnx(path), path))
        (folder / f"{written:03}").write_bytes(program)
        written += 1

    write()


if __name__ == "__main__":
    main()
