"""Loads the model to serve from a bundle: chooses an engine that passed and that this machine can run."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tscnc_deploy.engines.base import Array, Engine
from tscnc_deploy.engines.batches import require_independent, sample_images
from tscnc_deploy.errors import BundleError, GateFailedError, UnavailableError
from tscnc_deploy.serving.model import Model

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.bundle.signing.keyless import Identity


def open_model(
    bundle: Bundle,
    engine: str | None = None,
    *,
    version: str = "1",
    instances: int = 1,
    threads: int | None = None,
    allow_failed: bool = False,
    signer: Path | Identity | None = None,
    allow_unsigned: bool = False,
    page: bool = True,
) -> Model:
    """Opens the model to serve.

    Args:
        bundle: An opened bundle.
        engine: Name of an engine; None chooses, of those that passed and that this machine can run, the one that was
            fastest when the bundle was built.
        version: Version of the model.
        instances: Number of copies of the engine.
        threads: CPU threads per call; None uses `threads.thread_count`.
        allow_failed: Whether to serve a bundle that failed its gates, or an engine that was never attacked.
        signer: Public key (PEM file) or identity whose signature is required; None accepts unsigned bundles too.
        allow_unsigned: Whether to serve a bundle without the required signature.
        page: Whether to render the page for browsers.

    Raises:
        BundleError: The engine does not exist or is damaged, the bundle lacks the required signature, or its parts
            disagree about the threat model.
        GateFailedError: The bundle or the engine did not pass.
        InputError: The key cannot be read, or the engine's answer to an image depends on the other images of the batch.
        UnavailableError: This machine cannot run the engine, or cannot verify the signature: a package is missing or
            Sigstore cannot be reached.
    """
    manifest = bundle.manifest
    signed = None if signer is None else _signed(bundle, signer, allow_unsigned)
    names = choose_engines(bundle, engine, allow_failed=allow_failed)
    opened = _first_that_runs(bundle, fastest_first(bundle, names), threads)
    # A client's answer must not depend on the other clients' images.
    require_independent(opened, _images(bundle, opened))
    name = opened.spec.name
    copies = [bundle.engine(name, threads=threads) for _ in range(instances - 1)]
    model = Model(
        name=manifest.name,
        version=version,
        digest=bundle.digest,
        engines=(opened, *copies),
        classes=manifest.model.classes,
        passed=manifest.passed and bundle.entry(name).attacked,
        facts=_facts(bundle, name),
        signed=signed,
    )
    if not page:
        return model
    from tscnc_deploy.serving.page.rendering import render_page

    return replace(model, page=render_page(bundle, model))


def choose_engines(bundle: Bundle, engine: str | None, *, allow_failed: bool) -> list[str]:
    """Names of the engines that may be served or exported: the given one, or all that passed.

    Raises:
        BundleError: The engine does not exist, or the bundle contains none.
        GateFailedError: The bundle failed its gates, or the engine was never attacked.
    """

    names = list(bundle.engines) if engine is None else [engine]
    entries = {name: bundle.entry(name) for name in names}
    if not names:
        msg = f"{bundle.path}: contains no engine"
        raise BundleError(msg)
    if allow_failed:
        return names
    if not bundle.manifest.passed:
        failed = [gate.name for gate in bundle.record.gates if not gate.passed]
        which = f" ({', '.join(failed)})" if failed else ""
        msg = f"{bundle.path}: the bundle failed its gates{which}; use --allow-failed to accept it anyway"
        raise GateFailedError(msg)
    attacked = [name for name, entry in entries.items() if entry.attacked]
    if not attacked:
        what = f"the engine {engine} was" if engine else "its engines were"
        msg = f"{bundle.path}: {what} not attacked during the build; use --allow-failed to accept it anyway"
        raise GateFailedError(msg)
    return attacked


def _signed(bundle: Bundle, signer: Path | Identity, allow_unsigned: bool) -> bool:
    from tscnc_deploy.bundle.signing.keyless import verify_signer

    try:
        verify_signer(bundle, signer)
    except BundleError as error:
        if allow_unsigned:
            return False
        msg = f"{error}; use --allow-unsigned to accept it anyway"
        raise BundleError(msg) from error
    return True


def fastest_first(bundle: Bundle, names: list[str]) -> list[str]:
    """Engines by their time in the record; those without one, which did not run during the build, last and by name."""

    latency = bundle.record.latency
    times = {name: call.median_ms for name, call in latency.engines.items()} if latency else {}

    def milliseconds(name: str) -> float:
        found = times.get(name)
        return math.inf if found is None else found

    return sorted(names, key=milliseconds)


def _first_that_runs(bundle: Bundle, names: list[str], threads: int | None) -> Engine:
    reasons = []
    for name in names:
        try:
            return bundle.engine(name, threads=threads)
        except UnavailableError as error:
            reasons.append(f"{name}: {error}")
    raise UnavailableError("\n".join(reasons))


def _images(bundle: Bundle, engine: Engine) -> Array:
    """Images to try an engine with: those of the evidence, or noise if the bundle withholds them."""
    try:
        images = bundle.evidence.images
    except BundleError:  # serving does not need them otherwise
        return sample_images(engine.spec.input_shape)
    return images if len(images) else sample_images(engine.spec.input_shape)


def _facts(bundle: Bundle, engine: str) -> dict[str, Any]:

    manifest, record = bundle.manifest, bundle.record
    found = record.evaluations.engines.get(engine) if record.evaluations else None
    measured = found.model_dump(mode="json", include={"clean", "robust", "attacks"}) if found else {}
    return {
        "threat": bundle.threat.model_dump(mode="json"),
        **measured,
        "gates": [gate.model_dump(mode="json") for gate in record.gates],
        "arch": manifest.model.arch,
        "sparsity": manifest.model.sparsity,
        "multiply_add_sparsity": manifest.model.multiply_add_sparsity,
    }
