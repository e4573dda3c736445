"""The model that is served: engines opened from a bundle that passed, and what clients may know of it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tscnc_deploy.engines.base import Engine, EngineSpec
from tscnc_deploy.errors import BundleError, GateFailedError, UnavailableError

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.bundle.signing.keyless import Identity
    from tscnc_deploy.serving.page.content import Page

_TIMED_CALLS = 5


@dataclass(frozen=True, eq=False)
class Model:
    """An engine of a bundle, opened once per instance.

    Attributes:
        name: What clients call it: the bundle's name.
        version: "1", and one more after each reload.
        digest: SHA-256 of the bundle's manifest, which holds those of all its files.
        engines: The instances.
        classes: Names of the classes, in the order of the logits.
        passed: Whether the bundle passed its gates and this engine was attacked.
        facts: What protects it: threat model, accuracies, gates; for the model's metadata.
        signed: Whether the bundle's signature is of whom it had to be; None where nobody was named.
        page: What browsers are shown; None shows them nothing.
    """

    name: str
    version: str
    digest: str
    engines: tuple[Engine, ...]
    classes: tuple[str, ...]
    passed: bool
    facts: Mapping[str, Any]
    signed: bool | None = None
    page: Page | None = None

    @property
    def spec(self) -> EngineSpec:
        """What the instances are."""
        return self.engines[0].spec

    def warm_up(self, largest: int) -> list[float]:
        """Runs each instance on the largest batch and on one image, so that no client waits for first calls.

        Returns:
            Seconds of a few more calls with one image.
        """
        image, images = (np.zeros((count, *self.spec.input_shape), np.float32) for count in (1, largest))
        for engine in self.engines:
            for batch in (images, image):
                engine.logits(batch)
        times = [time.perf_counter()]
        for _ in range(_TIMED_CALLS):
            self.engines[0].logits(image)
            times.append(time.perf_counter())
        return [end - start for start, end in pairwise(times)]


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
    """Opens what is served.

    Args:
        bundle: An opened bundle.
        engine: Name of an engine; None takes, of those that passed and that this machine can run, the one that was the
            quickest where the bundle was built.
        version: Of the model.
        instances: Number of times that it is opened.
        threads: CPU threads of one call; None leaves it to the runtime.
        allow_failed: Whether a bundle that failed its gates, or an engine that was never attacked, is served.
        signer: Whose the bundle's signature must be, by a public key or without; None takes unsigned bundles too.
        allow_unsigned: Whether a bundle that is not signed so is served.
        page: Whether browsers are shown a page.

    Raises:
        BundleError: The engine is damaged, there is none of that name, or the bundle is not signed as it must be.
        GateFailedError: It did not pass.
        InputError: The key cannot be read.
        UnavailableError: This machine cannot run it, or lacks what checks the signature: the package, or Sigstore.
    """
    manifest = bundle.manifest
    signed = None if signer is None else _signed(bundle, signer, allow_unsigned)
    names = choose_engines(bundle, engine, allow_failed=allow_failed)
    opened = _first_that_runs(bundle, quickest_first(bundle, names), threads)
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
    return _with_page(model, bundle) if page else model


def choose_engines(bundle: Bundle, engine: str | None, *, allow_failed: bool) -> list[str]:
    """Names of the engines that may leave the house: the one that is asked for, or all that passed.

    Raises:
        BundleError: There is no such engine, or none at all.
        GateFailedError: The bundle failed its gates, or what is asked for was never attacked.
    """
    from tscnc_deploy.report.data import ReportData

    names = list(bundle.engines) if engine is None else [engine]
    entries = {name: bundle.entry(name) for name in names}
    if not names:
        msg = f"{bundle.path}: there is no engine in it"
        raise BundleError(msg)
    if allow_failed:
        return names
    if not bundle.manifest.passed:
        failed = [gate.name for gate in ReportData.from_json(bundle.record).gates if not gate.passed]
        which = f" ({', '.join(failed)})" if failed else ""
        msg = f"{bundle.path}: the bundle failed its gates{which}; --allow-failed takes it nevertheless"
        raise GateFailedError(msg)
    attacked = [name for name, entry in entries.items() if entry.attacked]
    if not attacked:
        what = f"the engine {engine} was" if engine else "its engines were"
        msg = f"{bundle.path}: {what} not attacked when it was built; --allow-failed takes it nevertheless"
        raise GateFailedError(msg)
    return attacked


def _signed(bundle: Bundle, signer: Path | Identity, allow_unsigned: bool) -> bool:
    from tscnc_deploy.bundle.signing.keyless import verify_signer

    try:
        verify_signer(bundle, signer)
    except BundleError as error:
        if allow_unsigned:
            return False
        msg = f"{error}; --allow-unsigned takes it nevertheless"
        raise BundleError(msg) from error
    return True


def quickest_first(bundle: Bundle, names: list[str]) -> list[str]:
    """Engines in the order of the times in the record; those without, which did not run there, at the end by name."""
    from tscnc_deploy.report.data import ReportData

    latency = ReportData.from_json(bundle.record).latency
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


def _with_page(model: Model, bundle: Bundle) -> Model:
    from tscnc_deploy.serving.page.content import make_page

    return replace(model, page=make_page(bundle, model))


def _facts(bundle: Bundle, engine: str) -> dict[str, Any]:
    from tscnc_deploy.report.data import ReportData

    manifest, record = bundle.manifest, ReportData.from_json(bundle.record)
    found = record.evaluations.engines.get(engine) if record.evaluations else None
    measured = found.model_dump(mode="json", include={"clean", "robust", "attacks"}) if found else {}
    return {
        "threat": manifest.threat.model_dump(mode="json"),
        **measured,
        "gates": [gate.model_dump(mode="json") for gate in record.gates],
        "arch": manifest.model.arch,
        "sparsity": manifest.model.sparsity,
        "multiply_add_sparsity": manifest.model.multiply_add_sparsity,
    }
