"""Whether the parts of a bundle agree with each other; runs no model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tscnc_deploy.bundle.manifest import RECIPE
from tscnc_deploy.check.result import CheckResult, pass_or_fail
from tscnc_deploy.text import escaped, quoted
from tscnc_deploy.versions import installed_version, python_and_system

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.recipe import Recipe

# A GPU build of onnxruntime and a CPU build are two distributions of one module.
_OTHER_BUILDS = {"onnxruntime-gpu": "onnxruntime", "onnxruntime": "onnxruntime-gpu"}
_ROUNDING = 1e-4


def check_environment(bundle: Bundle) -> CheckResult:
    """Names the versions on this machine that differ from the build's; a difference alone fails nothing.

    Compares everything that the build recorded but the device.
    """

    recorded = {name: then for name, then in bundle.record.environment.items() if name != "device"}
    fixed = python_and_system()
    here = {name: fixed[name] if name in fixed else _version(name) for name in recorded}
    differing = [
        f"{escaped(name)} {escaped(then)} -> {here[name]}" for name, then in recorded.items() if here[name] != then
    ]
    name = "environment: same as the build"
    return CheckResult(name, "note", "different: " + ", ".join(differing)) if differing else CheckResult(name, "passed")


def _version(distribution: str) -> str:
    if (version := installed_version(distribution)) is not None:
        return version
    other = _OTHER_BUILDS.get(distribution)
    version = installed_version(other) if other else None
    return f"{other} {version}" if version else "not installed"


def check_schema(bundle: Bundle) -> CheckResult:
    """Whether the record is of this version's schema; what an older one cannot show is named, and fails nothing."""
    from tscnc_deploy.record import SCHEMA
    from tscnc_deploy.record.migrate import MISSING

    name, schema = "record: of this version's schema", bundle.record.schema_name
    if schema == SCHEMA:
        return CheckResult(name, "passed")
    return CheckResult(name, "note", f"written by an older version ({schema}): {MISSING[schema]}")


def check_record(bundle: Bundle) -> Iterator[CheckResult]:
    """Whether recipe, record and manifest agree, and whether they say that the build passed its gates."""

    record = bundle.record
    recipe = bundle.load_recipe()
    changed = list(_changed(record.recipe, recipe))
    yield pass_or_fail("recipe: matches the record", not changed, "; ".join(changed))
    failed = [gate.name for gate in record.gates if not gate.passed]
    agree = bundle.manifest.passed == record.passed == (not failed)
    message = f"the build failed its own gates: {', '.join(failed)}" if failed else "manifest and record disagree"
    yield pass_or_fail("build gates: passed", agree and bundle.manifest.passed, message)


def _changed(record: dict[str, Any], recipe: Recipe) -> Iterator[str]:
    now = recipe.model_dump(mode="json", by_alias=True)
    usual = type(recipe)().model_dump(mode="json", by_alias=True)
    for section, settings in now.items():
        then = record.get(section)
        if isinstance(settings, dict) != isinstance(then, dict) and section in record:
            yield f"{section} is a section in only one of {RECIPE} and the record"
        elif isinstance(settings, dict):
            yield from _differing(section + ".", then or {}, settings, usual[section])
    yield from _differing("", record, {key: value for key, value in now.items() if not isinstance(value, dict)}, usual)
    for section in record.keys() - now.keys():
        yield f"{quoted(section)} is in the record, but not a part of a recipe"


def _differing(prefix: str, record: dict[str, Any], recipe: dict[str, Any], usual: dict[str, Any]) -> Iterator[str]:
    for key, have in recipe.items():
        # An earlier version did not have every key; a key that it lacks has the default.
        then = record.get(key, usual[key])
        if then != have:
            yield f"{prefix}{key} is {have} in {RECIPE}, {quoted(str(then))} in the record"
    for key in record.keys() - recipe.keys() if prefix else ():
        yield f"{prefix}{escaped(str(key))} is in the record, but not a part of a recipe"


def check_evidence(bundle: Bundle) -> Iterator[CheckResult]:
    """Whether there is evidence for every engine that is listed as attacked, and whether it is valid."""
    import torch

    from tscnc_deploy.robustness import Threat

    # If the bundle withholds its images, their indices and outcomes can still be counted.
    withheld, manifest = bundle.withheld, bundle.manifest
    stored = withheld or bundle.evidence
    adversarial = {} if withheld else bundle.evidence.adversarial
    twin = bundle.record.evaluations.twin
    evaluated = twin.clean.total if twin and twin.clean else 0
    wanted = min(bundle.load_recipe().verify.evidence_images, evaluated) or 1
    count = len(withheld.index if withheld else bundle.evidence.labels)
    message = f"{count} evidence images found, {wanted} expected"
    yield pass_or_fail("evidence: all images present", count >= wanted, message, count, wanted)
    threat = Threat(norm=manifest.threat.norm, epsilon=manifest.threat.epsilon)
    for name in ("twin", *bundle.engines):
        if name != "twin" and not manifest.engines[name].attacked:
            continue
        missing = _missing(name, None if withheld else adversarial, stored.outcomes)
        yield pass_or_fail(f"{name}: evidence present", not missing, f"the evidence contains no {missing} for it")
        if name in adversarial and count:
            images = torch.from_numpy(bundle.evidence.images)
            examples = torch.from_numpy(adversarial[name])
            beyond = float((threat.project(examples, images) - examples).abs().max())
            message = f"an adversarial example is {beyond:.3g} outside {threat.norm} {threat.epsilon:g}"
            yield pass_or_fail(f"{name}: examples within epsilon", beyond <= _ROUNDING, message)


def _missing(name: str, adversarial: Mapping[str, Any] | None, outcomes: Mapping[str, Any]) -> str:
    attacks = [key.rpartition(".")[2] for key in outcomes if key.rpartition(".")[0] == name]
    if adversarial is not None and name not in adversarial:
        return "adversarial examples"
    return "" if "clean" in attacks and len(attacks) > 1 else "outcomes"
