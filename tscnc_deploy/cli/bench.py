"""`tscnc-deploy bench`: the latency of a bundle's engines, compared with dense twins, or of an ONNX file."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tscnc_deploy.cli.common.output import json_option, print_json, print_table, reserve_stdout
from tscnc_deploy.cli.common.reading_options import reading_options

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.engines.base import Engine

_BATCHES = (1, 8, 32)


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--engine",
    "names",
    multiple=True,
    metavar="TARGET",
    help="Engine to time; may be repeated.  [default: every engine that this machine can run]",
)
@click.option(
    "--batch",
    "batches",
    multiple=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="Images per call; may be repeated.  [default: 1, 8 and 32]",
)
@click.option("--repeats", type=click.IntRange(min=1), default=100, show_default=True, help="Timed calls.")
@click.option("--warmup", type=click.IntRange(min=0), default=10, show_default=True, help="Untimed calls before them.")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="CPU threads of one call.  [default: TSCNC_THREADS, else the cores that this process may use]",
)
@click.option("--rebuild", is_flag=True, help="Rebuild TensorRT engines that do not open here, for this GPU.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for bench.json, bench.svg and bench.png.",
)
@reading_options
@json_option
def bench(
    artifact: Path,
    names: tuple[str, ...],
    batches: tuple[int, ...],
    repeats: int,
    warmup: int,
    threads: int | None,
    rebuild: bool,
    out: Path | None,
    as_json: bool,
    **reading: Any,
) -> None:
    """Time a bundle's engines, or an ONNX file.

    ARTIFACT is a bundle (or a run's folder), or any .onnx file. Each engine of a bundle is compared with its dense
    twin, the same network without zeros, exported by the same target, and the two are called in turns. Latency is from
    images in memory to logits in memory; clocks are recorded before and after.

    Exit status: 0 done, 2 bad input, 3 this machine cannot run any of the engines.
    """
    from tscnc_deploy.cli.common.clocks import clocks
    from tscnc_deploy.cli.common.progress import build_progress
    from tscnc_deploy.engines.timing import time_engines

    given = {name: value for name, value in reading.items() if value is not None}
    chosen = tuple(sorted(set(batches))) or _BATCHES
    with reserve_stdout(as_json), build_progress() as progress, tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        progress.start("bench", 1, 1)
        engines, unavailable = _engines_of(artifact, names, Path(folder), threads, rebuild, given)
        before = clocks()
        timings = time_engines(
            engines,
            chosen,
            repeats=repeats,
            warmup=warmup,
            progress=lambda done, total, label: progress.step(done, total, {}, label),
        )
        after = clocks()
        results = [_row(engines, timing.to_json()) for timing in timings]
        progress.finish("bench", cached=False, seconds=time.monotonic() - started)
    document = {
        "bundle": str(artifact),
        "machine": _machine() | {"before": before, "after": after},
        "settings": {"batches": list(chosen), "repeats": repeats, "warmup": warmup, "threads": threads},
        "results": results,
        "speedups": _speedups(results),
        "unavailable": unavailable,
    }
    if out is not None:
        _write(document, out)
    if as_json:
        print_json(document)
    else:
        _show(document, out)


def _engines_of(
    artifact: Path, names: tuple[str, ...], folder: Path, threads: int | None, rebuild: bool, reading: dict[str, Any]
) -> tuple[dict[str, Engine], dict[str, str]]:
    """See `_engines`; the engine of an ONNX file is called "NAME/file"."""
    from tscnc_deploy.bundle.opening import open_given
    from tscnc_deploy.errors import InputError

    if artifact.suffix != ".onnx" or artifact.is_dir():
        if reading:
            option = next(iter(reading)).replace("_", "-")
            msg = f"--{option}: {artifact} is not an ONNX file; leave out --{option}"
            raise InputError(msg)
        return _engines(open_given(artifact), names, folder, threads, rebuild)
    if names or rebuild:
        msg = f"{'--engine' if names else '--rebuild'}: {artifact} is an ONNX file, not a bundle; leave it out"
        raise InputError(msg)
    return {f"{artifact.stem}/file": _engine_of_file(artifact, threads, reading)}, {}


def _engine_of_file(path: Path, threads: int | None, options: dict[str, Any]) -> Engine:
    from tscnc_deploy.engines.onnx.foreign import adopt
    from tscnc_deploy.engines.onnx.reading import Reading
    from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine
    from tscnc_deploy.verify.values import parse_size

    if "input_size" in options:
        options = {**options, "input_size": parse_size(options["input_size"])}
    contrib = options.pop("allow_contrib_operators", False)
    adopted = adopt(path, Reading(**options, contrib=contrib))
    for note in adopted.notes:
        click.echo(note, err=True)
    return OnnxRuntimeEngine(path, threads=threads, read=lambda *_: adopted.data, contrib=contrib)


def _engines(
    bundle: Bundle, names: tuple[str, ...], folder: Path, threads: int | None, rebuild: bool
) -> tuple[dict[str, Engine], dict[str, str]]:
    """The engines and their dense twins, by "TARGET/pruned" and "TARGET/dense", and why other engines do not run.

    Raises:
        UnavailableError: A requested engine does not run, or none does.
    """
    import numpy as np

    from tscnc_deploy.bundle.manifest import TWIN
    from tscnc_deploy.engines import ExportAids, export_engine, open_engine
    from tscnc_deploy.errors import UnavailableError

    found: dict[str, Engine] = {}
    unavailable = {}
    dense = folder / TWIN
    _write_dense(bundle, dense)
    for name in names or bundle.engines:
        try:
            found[f"{name}/pruned"] = bundle.engine(name, threads=threads, rebuild=rebuild)
        except UnavailableError as error:
            if names:
                raise
            unavailable[name] = str(error)
            continue
        target = bundle.target(name)
        # For this GPU, whatever the bundle was built for, because both are timed on it.
        here = target.model_copy(update={"capabilities": (), "hardware": "this-gpu"})
        # The values of calibration images do not affect the speed in 8 bits, and a bundle may contain no images.
        pixels = np.random.default_rng(0).random((64, *bundle.manifest.model.input_shape), np.float32)
        aids = ExportAids(calibration=pixels, dense=dense)
        export_engine(bundle.twin, here, folder / name, input_shape=bundle.twin.input_shape, aids=aids)
        found[f"{name}/dense"] = open_engine(folder / name, threads=threads)
    if not found:
        raise UnavailableError("\n".join(unavailable.values()) or f"{bundle.path}: contains no engine")
    return found, unavailable


def _write_dense(bundle: Bundle, path: Path) -> None:
    """Writes the twin with a small weight in place of every zero.

    Raises:
        InputError: The twin is damaged.
        StorageError: The file cannot be written.
    """
    import numpy as np
    from onnx import numpy_helper

    from tscnc_deploy.bundle.manifest import TWIN
    from tscnc_deploy.engines.onnx.file import array_of, parse_onnx, write_onnx
    from tscnc_deploy.engines.onnx.structure import weight_names

    model = parse_onnx(bundle.read(TWIN), TWIN)
    weights, random = set(weight_names(model.graph)), np.random.default_rng(0)
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            weight = array_of(tensor)
            filling = 1e-3 * np.abs(weight).max() * (0.5 + random.random(weight.shape))
            filled = np.where(weight == 0, filling, weight).astype(weight.dtype)
            tensor.CopyFrom(numpy_helper.from_array(filled, tensor.name))
    write_onnx(model, path)


def _row(engines: dict[str, Engine], timing: dict[str, Any]) -> dict[str, Any]:
    spec = engines[timing["name"]].spec
    engine, network = timing.pop("name").rsplit("/", 1)
    facts = {"kind": spec.kind, "precision": spec.precision, "provider": spec.provider}
    return {"engine": engine, "network": network, **facts, **timing}


def _speedups(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Speedup: median latency of the dense twin over that of the pruned engine."""
    medians = {(row["engine"], row["network"], row["batch"]): row["p50_ms"] for row in results}
    return [
        {"engine": engine, "batch": batch, "speedup": medians[engine, "dense", batch] / median}
        for (engine, network, batch), median in medians.items()
        if network == "pruned"
    ]


def _machine() -> dict[str, Any]:
    from tscnc_deploy.cli.common import machine
    from tscnc_deploy.versions import installed_version

    system = machine.system()
    packages = ("torch", "onnxruntime-gpu", "onnxruntime", "tensorrt", "tensorrt-rtx")
    return {
        "os": system["os"],
        "python": system["python"],
        "cpu": system["cpu"],
        "gpus": machine.cuda()["gpus"],
        "packages": {name: version for name in packages if (version := installed_version(name))},
    }


def _write(document: dict[str, Any], out: Path) -> None:
    from tscnc_deploy.errors import StorageError
    from tscnc_deploy.report.timing_plot import timing_plot

    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "bench.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
        for form in ("svg", "png"):
            (out / f"bench.{form}").write_bytes(timing_plot(document["results"], form))
    except OSError as error:
        msg = f"--out {out}: cannot be written: {error.strerror}"
        raise StorageError(msg) from error


def _show(document: dict[str, Any], out: Path | None) -> None:
    speedups = {(row["engine"], row["batch"]): row["speedup"] for row in document["speedups"]}
    print_table(
        ("engine", "network", "batch", "p50 ms", "p95 ms", "p99 ms", "images/s", "speedup over own dense twin"),
        [
            (
                row["engine"],
                row["network"],
                row["batch"],
                *(f"{row[key]:.3f}" for key in ("p50_ms", "p95_ms", "p99_ms")),
                f"{row['images_per_second']:.0f}",
                f"{speedups[row['engine'], row['batch']]:.2f}" if row["network"] == "pruned" else "",
            )
            for row in document["results"]
        ],
    )
    settings = document["settings"]
    providers = ", ".join(dict.fromkeys(row["provider"] for row in document["results"]))
    click.echo(f"{settings['repeats']} calls each, in turns, after {settings['warmup']} untimed calls; {providers}")
    if speedups:
        click.echo(
            "speedup: p50 of the dense twin (no zeros, exported by the same target) / p50 of the pruned engine; "
            "that of `build` is over the dense network in onnxruntime"
        )
    for name, reason in document["unavailable"].items():
        click.echo(f"{name}: not timed: {reason}")
    if out is not None:
        click.echo(f"written: {out / 'bench.json'}, bench.svg, bench.png")
