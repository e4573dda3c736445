"""Measures the engine sparse-cpu against onnxruntime, OpenVINO and DeepSparse in one process, engine by engine in turn.

    python benchmarks/sparse_cpu.py [--nets resnet18] [--masks uniform] [--sparsities 0.95] [--batches 1 8 64]
                                    [--threads 1 2] [--rounds 12] [--cpu-time] [--name NAME]

Networks have random weights with masks of the largest magnitudes: "uniform" keeps the same share of every layer,
"global" ranks all weights of the network together (each layer keeps at least 2%), and "macs" and "latency" do so under
the budgets of prune.budget, with magnitudes in units of each layer's spread. Norms are calibrated on random images.
Every engine runs the same network; int8 files are calibrated on random images and serve for times only. Peers that are
not installed are left out:

    pip install openvino                         # float32 and int8
    pip install --no-deps deepsparse==1.8.0      # evaluation licence; Python 3.11 and older

In each round every engine has a turn of a few calls, of which the first is not counted, because it finds the caches
full of another engine's weights. Ratios are those of the medians and of the minima over all turns. On a machine that
others use too, --cpu-time counts the processor time of this process instead of the time on the wall. Writes what it
prints to benchmarks/results/sparse_cpu-NAME.json, and a plot of the speed-up over the sparsity beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import version_converter

from tscnc_deploy import models
from tscnc_deploy.cli.common import machine
from tscnc_deploy.engines.onnx.export import export_onnx
from tscnc_deploy.engines.onnx.sparse import write_sparse
from tscnc_deploy.engines.onnx.structure import recount
from tscnc_deploy.engines.sparse_cpu.engine import SparseCpuEngine
from tscnc_deploy.engines.sparse_cpu.library import instructions_for, peak_multiply_adds
from tscnc_deploy.pipeline.stages.budget import weight_costs
from tscnc_deploy.tscnc.ranking import rank_globally

RESULTS = Path(__file__).parent / "results"
PEERS = ("onnxruntime", "onnxruntime-int8", "openvino", "openvino-int8", "deepsparse", "sparse-cpu", "sparse-cpu-avx2")
SHAPE = (3, 32, 32)
FLOOR = 0.02
# One turn lasts about as long, so that the clock's resolution and the switch of engines do not count.
TURN_SECONDS = 0.04

Run = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=["resnet18"])
    parser.add_argument(
        "--masks", nargs="+", default=["uniform", "global"], choices=["uniform", "global", "macs", "latency"]
    )
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.8, 0.9, 0.95, 0.98])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=PEERS)
    parser.add_argument("--name", default=None, help="of the result, by default the processor's")
    # Internal: opens one engine in a fresh process and prints what it takes.
    parser.add_argument("--weigh", nargs=2, metavar=("PEER", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.weigh:
        print(json.dumps(weigh(arguments.weigh[0], Path(arguments.weigh[1]))))
        return

    if arguments.cpu_time and arguments.threads != [1]:
        parser.error("--cpu-time says nothing about several threads; add --threads 1")

    clock = time.process_time if arguments.cpu_time else time.perf_counter
    processor = machine.system()["cpu"]
    name = arguments.name or processor["model"].lower().replace(" ", "-")
    result = {
        "machine": {
            "cpu": processor["model"],
            "cores": processor["usable_cores"],
            "instructions": instructions_for("auto"),
            "peak_gmacs": round(peak_multiply_adds() / 1e9, 1),
            "load": os.getloadavg()[0],
            "python": platform.python_version(),
        },
        "versions": {name: machine.installed_version(name) for name in ("onnxruntime-gpu", "openvino", "deepsparse")},
        "clock": clock.__name__,
        "rounds": arguments.rounds,
        "rows": [],
    }
    torch.set_num_threads(1)
    for net in arguments.nets:
        for mask in arguments.masks:
            for sparsity in arguments.sparsities:
                with tempfile.TemporaryDirectory() as scratch:
                    folder = Path(scratch)
                    facts = write_network(net, mask, sparsity, folder, arguments.peers)
                    facts["weighed"] = weigh_all(arguments.peers, folder)
                    print(json.dumps(facts), flush=True)
                    for threads in arguments.threads:
                        engines = {peer: run for peer in arguments.peers if (run := opened(peer, folder, threads))}
                        for batch in arguments.batches:
                            row = facts | {"threads": threads, "batch": batch}
                            row |= compare(
                                engines, batch, arguments.rounds, clock, result["machine"]["peak_gmacs"], facts
                            )
                            result["rows"].append(row)
                            show(row)
                            save(result, name)
    plot(result, RESULTS / f"sparse_cpu-{name}.svg")


def write_network(net: str, mask: str, sparsity: float, folder: Path, peers: list[str]) -> dict:
    """Writes dense.onnx, sparse.onnx and, if a peer wants it, int8.onnx; returns what is known of the network."""
    model = models.build(net, classes=10, input_shape=SHAPE, mean=(0.5,) * 3, std=(0.25,) * 3)
    weights = {name: parameter for name, parameter in model.named_parameters() if parameter.ndim > 1}
    # In units of each layer's own scale, as trained weights are, not of its initialisation's.
    scores = {name: (weight.detach() / weight.detach().std()).abs() for name, weight in weights.items()}
    if mask == "uniform":
        masks = {}
        for name, score in scores.items():
            least = score.flatten().kthvalue(max(1, round(sparsity * score.numel()))).values
            masks[name] = score > least
    elif mask == "global":
        magnitudes = {name: weight.detach().abs() for name, weight in weights.items()}
        masks = rank_globally(magnitudes, sparsity, floor=min(FLOOR, (1 - sparsity) / 2))
    else:
        costs = weight_costs(model, mask)
        masks = rank_globally(scores, sparsity, floor=min(FLOOR, (1 - sparsity) / 2), costs=costs)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight_name, weight in weights.items():
            weight *= masks[weight_name]
        for _ in range(2):
            model.train()(torch.rand((16, *SHAPE), generator=generator))
    export_onnx(model.eval(), folder / "dense.onnx", input_shape=SHAPE)
    write_sparse(folder / "dense.onnx", folder / "sparse.onnx")
    if any(peer.endswith("-int8") for peer in peers):
        quantize(folder)
    structure = recount(folder / "sparse.onnx")
    return {
        "net": net,
        "mask": mask,
        "sparsity": sparsity,
        "zeros": round(1 - sum(int(m.sum()) for m in masks.values()) / sum(m.numel() for m in masks.values()), 4),
        "multiply_adds": structure.multiply_adds,
        "multiply_add_density": round(1 - structure.multiply_add_sparsity, 4),
        "dense_bytes": (folder / "dense.onnx").stat().st_size,
        "sparse_bytes": (folder / "sparse.onnx").stat().st_size,
    }


def quantize(folder: Path) -> None:
    """Static int8 with QDQ nodes, per channel, calibrated on random images."""
    from onnxruntime import quantization

    class Images(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            generator = np.random.default_rng(0)
            self.left = [{"images": generator.random((8, *SHAPE), np.float32)} for _ in range(2)]

        def get_next(self):
            return self.left.pop() if self.left else None

    prepared = folder / "prepared.onnx"
    quantization.shape_inference.quant_pre_process(str(folder / "dense.onnx"), str(prepared), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(prepared), str(folder / "int8.onnx"), Images(), per_channel=True, quant_format=quantization.QuantFormat.QDQ
    )


def opened(peer: str, folder: Path, threads: int) -> Run | None:
    """A function from images to logits, or None if the peer is not installed."""
    file = folder / ("int8.onnx" if peer.endswith("-int8") else "dense.onnx")
    if peer.startswith("onnxruntime"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        return lambda images: session.run(None, {"images": images})[0]
    if peer.startswith("openvino"):
        try:
            import openvino
        except ImportError:
            return None
        settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.Core().compile_model(str(file), "CPU", settings)
        request = compiled.create_infer_request()
        return lambda images: request.infer({0: images}, share_inputs=True)[0]
    if peer == "deepsparse":
        try:
            import deepsparse
        except ImportError:
            return None
        engines = {}
        # It reads operator sets up to 19.
        older = folder / "opset19.onnx"
        onnx.save(version_converter.convert_version(onnx.load(file), 19), older)

        def run(images):
            if len(images) not in engines:
                engines[len(images)] = deepsparse.Engine(str(older), batch_size=len(images), num_cores=threads)
            return engines[len(images)].run([images])[0]

        return run
    if peer == "sparse-cpu-avx2" and instructions_for("auto") != "avx512":
        return None
    instructions = "avx2" if peer.endswith("avx2") else "auto"
    return SparseCpuEngine(folder / "sparse.onnx", threads=threads, instructions=instructions, batch_max=1 << 20).logits


def compare(
    engines: dict[str, Run], batch: int, rounds: int, clock: Callable[[], float], peak: float, facts: dict
) -> dict:
    """Milliseconds an image, and how many times faster than onnxruntime, of every engine."""
    images = np.random.default_rng(1).random((batch, *SHAPE), np.float32)
    expected = engines["onnxruntime"](images)
    scale = float(np.abs(expected).max())
    calls, differences = {}, {}
    for peer, run in engines.items():
        differences[peer] = float(np.abs(run(images) - expected).max())
        start = clock()
        run(images)
        calls[peer] = max(2, min(200, round(TURN_SECONDS / (clock() - start))))
    times: dict[str, list[float]] = {peer: [] for peer in engines}
    for _ in range(rounds):
        for peer, run in engines.items():
            run(images)
            for _ in range(calls[peer]):
                start = clock()
                run(images)
                times[peer].append((clock() - start) / batch * 1e3)
    base = times["onnxruntime"]
    found = {}
    for peer, values in times.items():
        median, least = statistics.median(values), min(values)
        work = facts["multiply_adds"] * (facts["multiply_add_density"] if peer.startswith("sparse-cpu") else 1)
        found[peer] = {
            "ms": round(median, 4),
            "min_ms": round(least, 4),
            "ratio": round(statistics.median(base) / median, 2),
            "min_ratio": round(min(base) / least, 2),
            "of_peak": round(work / (least / 1e3) / (peak * 1e9), 3),
            "difference": differences[peer],
            # Times of an engine that answers something else are listed, but mean nothing.
            "agrees": peer.endswith("-int8") or differences[peer] <= 1e-3 * scale,
        }
    return {"logit_scale": scale, "engines": found}


def weigh_all(peers: list[str], folder: Path) -> dict:
    """Seconds to open, and memory, of every engine, each in a process of its own."""
    weighed = {}
    for peer in peers:
        command = [sys.executable, __file__, "--weigh", peer, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0 and (found := json.loads(done.stdout.splitlines()[-1])):
            weighed[peer] = found
    return weighed


def weigh(peer: str, folder: Path) -> dict | None:
    """Opens an engine and runs batches of 1 and 64 with one thread."""
    images = np.zeros((64, *SHAPE), np.float32)
    if peer.startswith("openvino"):
        try:
            import openvino  # noqa: F401
        except ImportError:
            return None
    import onnxruntime  # noqa: F401

    before = _peak_memory()
    start = time.perf_counter()
    run = opened(peer, folder, 1)
    if run is None:
        return None
    ready = time.perf_counter() - start
    run(images[:1])
    run(images)
    return {"open_seconds": round(ready, 3), "memory_mb": round((_peak_memory() - before) / 1024, 1)}


def _peak_memory() -> int:
    """Of this process in KiB; getrusage would count what its parent held when it was started."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def show(row: dict) -> None:
    title = f"{row['net']} {row['mask']} {row['sparsity']:.0%}, batch {row['batch']}, threads {row['threads']}"
    print(title, flush=True)
    for peer, found in row["engines"].items():
        wrong = "" if found["agrees"] else "  WRONG ANSWERS"
        print(
            f"  {peer:18} {found['ms']:8.3f} ms  {found['ratio']:6.2f}x  (minima {found['min_ms']:.3f} ms "
            f"{found['min_ratio']:.2f}x)  {found['of_peak']:.0%} of peak  differs {found['difference']:.1e}{wrong}",
            flush=True,
        )


def save(result: dict, name: str) -> None:
    (RESULTS / f"sparse_cpu-{name}.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def plot(result: dict, path: Path) -> None:
    """Speed-up over sparsity at one thread: lines for batches and masks of the first network."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    net = result["rows"][0]["net"]
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for mask in dict.fromkeys(row["mask"] for row in result["rows"]):
        for batch in dict.fromkeys(row["batch"] for row in result["rows"]):
            chosen = [
                row
                for row in result["rows"]
                if (row["net"], row["mask"], row["batch"], row["threads"]) == (net, mask, batch, 1)
            ]
            x = [100 * row["sparsity"] for row in chosen]
            y = [row["engines"]["sparse-cpu"]["ratio"] for row in chosen]
            axes.plot(x, y, marker="o", label=f"{mask} masks, batch {batch}")
    axes.axhline(1, color="gray", linewidth=1)
    axes.set_xlabel("zeros among the weights, %")
    axes.set_ylabel("times as fast as dense onnxruntime")
    axes.set_title(f"{net}, float32, one thread of {result['machine']['cpu']}")
    axes.legend()
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
