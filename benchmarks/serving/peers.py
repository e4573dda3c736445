"""This server beside kserve's and mlserver's: a tiny model, batch 1, loopback, in turns within one run.

    python -m benchmarks.serving.peers [--rounds 5] [--seconds 2] [--name amd-epyc]

kserve and mlserver are installed from the package index into environments of their own, in a temporary folder unless
one is named, and serve the same ONNX file by onnxruntime with one thread, mlserver without the pool of processes that
it would add. The same clients (`clients`) ask all three. In each round every server has its turn in every row. "ahead"
compares within rounds; where others use the machine, each server's best round says more than the median.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from benchmarks.serving import results
from benchmarks.serving.clients import KINDS, Load, logits_of, measure
from tests.serving.bundles import SHAPE, expected, write_served
from tests.serving.servers import serving
from tscnc_deploy import open_bundle

PEERS = ("kserve", "mlserver")
# mlserver's HTTP has no binary tensors.
NOT_SPOKEN = {("mlserver", "http binary")}
MANY = 8
Address = dict[str, str]


def environment(folder: Path, peer: str) -> Path:
    """Python of an environment with a peer, made where there is none."""
    python = folder / peer / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / peer], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", peer, "onnxruntime"], check=True)
    return python


def versions(python: Path) -> dict[str, str]:
    names = (*PEERS, "onnxruntime", "uvicorn", "uvloop", "fastapi", "grpcio")
    listed = subprocess.run([python, "-m", "pip", "list", "--format", "json"], check=True, capture_output=True)
    return {found["name"]: found["version"] for found in json.loads(listed.stdout) if found["name"] in names}


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [made.getsockname()[1] for made in sockets]


@contextmanager
def peer_server(peer: str, python: Path, model: Path, folder: Path) -> Iterator[Address]:
    """Runs a peer until the block ends."""
    http, grpc, metrics = free_ports(3)
    here = Path(__file__).parent
    if peer == "kserve":
        command = [python, here / "kserve_peer.py", model, http, grpc]
    else:
        settings = {"http_port": http, "grpc_port": grpc, "metrics_port": metrics, "debug": False}
        tiny = {"name": "tiny", "implementation": "mlserver_peer.Tiny", "parameters": {"uri": str(model)}}
        (folder / "settings.json").write_text(json.dumps(settings | {"parallel_workers": 0, "host": "127.0.0.1"}))
        (folder / "model-settings.json").write_text(json.dumps(tiny))
        command = [python.with_name("mlserver"), "start", folder]
    variables = os.environ | {"PYTHONPATH": str(here)}
    with (folder / f"{peer}.log").open("w") as log:
        process = subprocess.Popen([*map(str, command)], stdout=log, stderr=log, env=variables, cwd=folder)
    try:
        yield {"http": f"127.0.0.1:{http}", "grpc": f"127.0.0.1:{grpc}"}
    except Exception:
        print((folder / f"{peer}.log").read_text()[-3000:], file=sys.stderr)
        raise
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def load(kind: str, address: Address, clients: int, seconds: float) -> Load:
    return Load(kind, address["grpc" if kind == "grpc" else "http"], "tiny", (1, *SHAPE), clients, seconds)


def require_right(name: str, address: Address) -> None:
    """Waits until a server answers, and compares its answers."""
    for kind in (kind for kind in KINDS if (name, kind) not in NOT_SPOKEN):
        asked = load(kind, address, 1, 0)
        latest = time.monotonic() + 90
        while True:
            try:
                logits = logits_of(asked)
                break
            except Exception:
                if time.monotonic() > latest:
                    raise
                time.sleep(0.2)
        np.testing.assert_allclose(logits, expected(asked.images), rtol=1e-5, err_msg=f"{name}, {kind}")


def in_process_ms(bundle: Path, seconds: float) -> float:
    """Median time of one image in the engine, here."""
    engine = open_bundle(bundle).engine("onnx-cpu", threads=1)
    image, times = np.zeros((1, *SHAPE), np.float32), []
    end = time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        engine.logits(image)
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


def one_round(servers: dict[str, Address], seconds: float) -> dict[str, dict[str, float]]:
    """By row and server; milliseconds, or requests per second."""
    rows: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        for name, address in servers.items():
            if (name, kind) in NOT_SPOKEN:
                continue
            lone = measure(load(kind, address, 1, seconds))
            many = measure(load(kind, address, MANY, seconds))
            for row, figure in (
                (f"{kind}, 1 client, p50 ms", lone["p50_ms"]),
                (f"{kind}, 1 client, p99 ms", lone["p99_ms"]),
                (f"{kind}, {MANY} clients, requests/s", many["requests_per_second"]),
            ):
                rows.setdefault(row, {})[name] = figure
    return rows


def summary(rounds: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, object]]:
    """Medians over the rounds, each server's best round, and how many times better this one was than each peer."""
    found = {}
    for row in rounds[0]:
        medians = {name: round(statistics.median(each[row][name] for each in rounds), 3) for name in rounds[0][row]}
        best = max if row.endswith("/s") else min
        bests = {name: round(best(each[row][name] for each in rounds), 3) for name in medians}
        ahead = {}
        for peer in medians.keys() - {"tscnc-deploy"}:
            ratios = [each[row]["tscnc-deploy"] / each[row][peer] for each in rounds]
            times = ratios if row.endswith("/s") else [1 / ratio for ratio in ratios]
            ahead[peer] = {"median": round(statistics.median(times), 2), "worst_round": round(min(times), 2)}
        found[row] = {"medians": medians, "best_rounds": bests, "ahead": ahead}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement in each round")
    parser.add_argument("--environments", type=Path, help="folder that keeps the peers' environments for the next run")
    parser.add_argument("--name", help="of the machine, to write the results")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bundle = write_served(folder / "bundle")
        installed = {peer: environment((options.environments or folder).absolute(), peer) for peer in PEERS}
        ours = stack.enter_context(serving(bundle))
        servers = {"tscnc-deploy": {"http": ours.http, "grpc": ours.grpc}}
        for peer, python in installed.items():
            place = folder / f"{peer}-server"
            place.mkdir()
            model = bundle / "engines" / "onnx-cpu" / "model.onnx"
            servers[peer] = stack.enter_context(peer_server(peer, python, model, place))
        for name, address in servers.items():
            require_right(name, address)
        before, rounds, engine = results.load_average(), [], []
        for _ in range(options.rounds):
            engine.append(in_process_ms(bundle, options.seconds / 4))
            rounds.append(one_round(servers, options.seconds))
            print(json.dumps(rounds[-1]), flush=True)
        figures = {
            "load_average": {"before": before, "after": results.load_average()},
            "peers": {peer: versions(python) for peer, python in installed.items()},
            "not_spoken": [f"{name}: {kind}" for name, kind in NOT_SPOKEN],
            "in_process_onnxruntime_ms": round(statistics.median(engine), 4),
            "rows": summary(rounds),
            "rounds": rounds,
        }
    for row, found in figures["rows"].items():
        print(f"{row:40} {found['medians']}  best {found['best_rounds']}  ahead {found['ahead']}")
    if options.name:
        results.write("peers", options.name, figures)


if __name__ == "__main__":
    main()
