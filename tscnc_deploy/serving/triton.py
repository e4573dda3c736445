"""A bundle's engine as a model of Triton Inference Server: one folder of a model repository.

config.pbtxt follows model_config.proto of https://github.com/triton-inference-server/common.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tscnc_deploy import strict_json
from tscnc_deploy.errors import BundleError, InputError, StorageError
from tscnc_deploy.open_inference import INPUT, OUTPUT
from tscnc_deploy.versions import own_version

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.engines.target import Target

RELEASE = "25.06"
RUNTIME = "onnxruntime 1.22"
# Supported by onnxruntime 1.20 and later, so by that release's too.
MAX_OPSET = 21
MAX_IR = 10
_MAX_FACTS = 1 << 20


@dataclass(frozen=True)
class Options:
    """Settings of the server, besides the engine.

    Attributes:
        instances: Number of copies of the engine, on the CPU or on each GPU.
        max_delay: Longest time in seconds that a request waits for others to join its batch.
    """

    instances: int = 1
    max_delay: float = 0.002


@dataclass(frozen=True)
class _Artefact:
    """The file that Triton opens."""

    source: str
    file: str
    backend: str
    capabilities: tuple[str, ...] = ()
    single_images: bool = False


def write_triton(bundle: Bundle, engine: str, repository: Path, options: Options) -> Path:
    """Writes the model folder repository/NAME, where NAME is the name of the bundle.

    Args:
        bundle: An opened bundle.
        engine: Name of one of its engines.
        repository: Folder of the repository; created if it does not exist.
        options: See `Options`.

    Returns:
        The model folder.

    Raises:
        BundleError: The engine does not exist or is damaged.
        InputError: Triton cannot run the engine, or the model folder exists.
        StorageError: The folder cannot be written.
    """
    from tscnc_deploy.report.templates import fill

    target = bundle.target(engine)
    artefact = _artefact(bundle, engine, target)
    name, model = bundle.manifest.name, bundle.manifest.model
    most = 1 if artefact.single_images else target.batch_max
    labels = "".join(" ".join(label.split()) + "\n" for label in model.classes)
    config = fill(
        "triton_config.pbtxt.j2",
        autoescape=False,
        **describe(bundle, engine),
        name=name,
        runtime=RUNTIME,
        backend=artefact.backend,
        file=artefact.file,
        capabilities=artefact.capabilities,
        max_batch=most,
        input=INPUT,
        input_shape=list(model.input_shape),
        output=OUTPUT,
        classes=len(model.classes),
        instances=options.instances,
        delay=round(options.max_delay * 1e6),
        max_queue=4 * target.batch_max,
        warm_up=sorted({min(target.batch_min, most), most}),
    )
    with finished_folder(repository / name) as folder:
        (folder / "config.pbtxt").write_text(config, "utf-8")
        (folder / "labels.txt").write_text(labels, "utf-8")
        (folder / "1").mkdir()
        (folder / "1" / artefact.file).write_bytes(bundle.read(artefact.source))
    return repository / name


def describe(bundle: Bundle, engine: str) -> dict[str, Any]:
    """The values that the Triton and KServe templates share."""

    found = bundle.record.evaluations.engines.get(engine)
    return {
        "bundle": bundle.manifest.name,
        "engine": engine,
        "tool": own_version(),
        "release": RELEASE,
        "digest": bundle.digest,
        "norm": bundle.threat.norm,
        "epsilon": bundle.threat.epsilon,
        "robust": found.robust.accuracy if found and found.robust else None,
        "gpu": _needs_gpu(bundle.target(engine)),
    }


@contextmanager
def finished_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to `folder` when the block ends without an error.

    Raises:
        InputError: `folder` exists.
        StorageError: It cannot be written.
    """
    if folder.exists():
        msg = f"{folder}: already exists; remove it, or choose another --out"
        raise InputError(msg)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as partial:
            inside = Path(partial) / folder.name
            inside.mkdir()
            yield inside
            inside.replace(folder)
    except OSError as error:
        msg = f"{folder}: cannot be written: {error.strerror or error}"
        raise StorageError(msg) from error


def _needs_gpu(target: Target) -> bool:
    return target.engine != "onnxruntime" or target.provider != "CPUExecutionProvider"


def _artefact(bundle: Bundle, engine: str, target: Target) -> _Artefact:
    inside = f"engines/{engine}/"
    if bundle.entry(engine).kind == "onnxruntime":
        source, single_images = _onnx(bundle, engine)
        return _Artefact(source, "model.onnx", "onnxruntime", single_images=single_images)
    if bundle.entry(engine).kind == "tensorrt":
        capabilities = _capabilities(bundle, f"{inside}engine.json")
        return _Artefact(f"{inside}model.engine", "model.plan", "tensorrt", capabilities)
    msg = f"{bundle.path}: Triton cannot run the engine {engine} ({target.engine}); choose another with --engine"
    raise InputError(msg)


def _capabilities(bundle: Bundle, path: str) -> tuple[str, ...]:
    """The GPUs that an engine was built for, as compute capabilities: 8.9 for SM89."""
    try:
        facts = strict_json.loads(bundle.read(path, _MAX_FACTS))
    except ValueError as error:
        msg = f"{bundle.path}: {path} {error}"
        raise BundleError(msg) from error
    made_for = facts.get("made_for") if isinstance(facts, dict) else None
    matches = [re.fullmatch(r"SM(\d{1,3})(\d)", str(name)) for name in made_for] if isinstance(made_for, list) else []
    found = tuple(f"{match[1]}.{match[2]}" for match in matches if match)
    if not found or len(found) != len(matches):
        msg = f"{bundle.path}: {path} does not say for which GPUs the engine was built"
        raise BundleError(msg)
    return found


def _onnx(bundle: Bundle, engine: str) -> tuple[str, bool]:
    """The ONNX file; the dense one if the other has sparse initializers, which some execution providers lack.

    Returns:
        Its path, and whether it must be given one image at a time.
    """
    from tscnc_deploy.engines.onnx.batch import needs_single_images, require_independent_images
    from tscnc_deploy.engines.onnx.file import parse_onnx
    from tscnc_deploy.engines.onnx.signature import signature_of

    source = f"{bundle.entry(engine).folder}/model.onnx"
    model = parse_onnx(bundle.read(source), source)
    if model.graph.sparse_initializer:
        source = bundle.twin_path(engine)
        model = parse_onnx(bundle.read(source), source)
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset > MAX_OPSET or model.ir_version > MAX_IR:
        msg = (
            f"{bundle.path}: {source} has opset {opset} and IR version {model.ir_version}; Triton {RELEASE} with "
            f"{RUNTIME} supports at most {MAX_OPSET} and {MAX_IR}; export the engine again"
        )
        raise InputError(msg)
    path = bundle.path / source
    signature = signature_of(model, path)
    require_independent_images(model, signature, path)
    return source, needs_single_images(model, signature, path)
