"""Whether a bundle holds only what a build writes, and evidence that can be evidence."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tscnc_deploy.bundle.manifest import PROVENANCE, REQUIRED, SBOM, SCRIPT, TWIN
from tscnc_deploy.check.figures import Outcomes, outcomes_of, robust_mask
from tscnc_deploy.check.result import CheckResult, pass_or_fail
from tscnc_deploy.text import escaped, quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tscnc_deploy.bundle import Bundle

_FILES = {*REQUIRED, SBOM, PROVENANCE, SCRIPT}
# Of all kinds of engine.
_ENGINE_FILES = {
    "target.json",
    "model.onnx",
    "model.graph.onnx",
    "dispatch.json",
    "model.engine",
    "engine.json",
    TWIN,
}


def check_stored(bundle: Bundle) -> Iterator[CheckResult]:
    """Whether there are files, classes or arrays that no build writes, and outcomes or examples that cannot be."""
    yield _check_files(bundle)
    yield _check_classes(bundle.manifest.model.classes)
    outcomes = outcomes_of(bundle)
    yield _check_names(bundle, outcomes)
    impossible = [
        f"{escaped(name)}, {escaped(attack)}: {count} images"
        for name, masks in outcomes.items()
        for attack, mask in masks.items()
        if "clean" in masks and (count := int((mask & ~masks["clean"]).sum()))
    ]
    message = f"misclassified without an attack, but correct under one: {'; '.join(impossible[:3])}"
    yield pass_or_fail("evidence: outcomes that can be", not impossible, message)
    yield from _check_successes(bundle, outcomes)


def _check_files(bundle: Bundle) -> CheckResult:
    folders = {entry.folder for entry in bundle.manifest.engines.values()}
    added = [path for path in sorted(bundle.manifest.files) if path not in _FILES and not _of_engine(path, folders)]
    message = f"no build writes {', '.join(added[:5])}{' and more' if len(added) > 5 else ''}"
    return pass_or_fail("files: nothing added", not added, message)


def _of_engine(path: str, folders: set[str]) -> bool:
    folder, _, name = path.rpartition("/")
    return folder in folders and name in _ENGINE_FILES


def _check_classes(classes: Sequence[str]) -> CheckResult:
    """Case may tell classes apart, such as letters; two forms of one Unicode text may not."""
    seen: set[str] = set()
    alike = []
    for name in classes:
        plain = unicodedata.normalize("NFKC", name).strip()
        if plain in seen:
            alike.append(name)
        seen.add(plain)
    message = f"{', '.join(map(quoted, alike[:3]))} looks like another class"
    return pass_or_fail("classes: can be told apart", not alike, message)


def _check_names(bundle: Bundle, outcomes: Outcomes) -> CheckResult:
    adversarial = {} if bundle.withheld else bundle.evidence.adversarial
    foreign = [*outcomes.keys() - {"dense", "twin", *bundle.engines}, *adversarial.keys() - {"twin", *bundle.engines}]
    named = ", ".join(quoted(name) for name in sorted(foreign)[:3])
    return pass_or_fail("evidence: of this bundle's engines", not foreign, f"it is also of {named}")


def _check_successes(bundle: Bundle, outcomes: Outcomes) -> Iterator[CheckResult]:
    """Whether every image that an attack is said to have changed has an example that differs from it."""
    if bundle.withheld:
        return
    evidence = bundle.evidence
    for name, examples in evidence.adversarial.items():
        masks = outcomes.get(name, {})
        if "clean" not in masks or len(masks) < 2:
            continue
        changed = (examples != evidence.images).any(axis=(1, 2, 3))
        unchanged = int((masks["clean"] & ~robust_mask(masks) & ~changed).sum())
        message = f"{unchanged} images are recorded as misclassified under attack, but their examples are the images"
        yield pass_or_fail(f"{escaped(name)}: successes have adversarial examples", not unchanged, message)
