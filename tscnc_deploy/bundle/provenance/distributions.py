"""The installed distributions that a build uses: the requirements of this package, and theirs."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tscnc_deploy.versions import own_version

ROOT = "tscnc-deploy"
# These extras build engines.
_EXTRAS = frozenset({"tensorrt", "tensorrt-rtx"})
_CHECKOUT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Distribution:
    """An installed distribution.

    Attributes:
        name: Normalized name.
        version: Installed version, including a local part such as +cpu.
        license: License in its metadata, if it fits on one line; None otherwise.
        requires: Names of the installed distributions that it requires, sorted.
    """

    name: str
    version: str
    license: str | None
    requires: tuple[str, ...]


def build_distributions(extras: Iterable[str] = ()) -> dict[str, Distribution]:
    """This package and its installed requirements, direct and indirect, by name and sorted by name.

    Other packages in the environment are left out: a bundle is published and should not list them.

    Args:
        extras: Those of this package that a build uses, besides those that build engines.
    """
    found: dict[str, Distribution] = {}
    wanted: list[tuple[str, frozenset[str]]] = [(ROOT, _EXTRAS.union(extras))]
    seen = set(wanted)
    while wanted:
        name, extras = wanted.pop()
        known = found.get(name) or _distribution(name)
        if known is None:
            continue
        needed = [need for need in _requirements(name, extras) if _is_installed(need[0])]
        names = {*known.requires, *(each for each, _ in needed)}
        found[name] = Distribution(known.name, known.version, known.license, tuple(sorted(names)))
        new = [need for need in needed if need not in seen]
        seen.update(new)
        wanted += new
    return dict(sorted(found.items()))


def _distribution(name: str) -> Distribution | None:
    try:
        metadata = distribution(name).metadata
    except PackageNotFoundError:
        return Distribution(ROOT, own_version(), None, ()) if name == ROOT else None
    license_ = metadata.json.get("license_expression") or metadata.json.get("license")
    # Some packages put the whole text of the license there.
    short = license_ if isinstance(license_, str) and 0 < len(license_) <= 80 and "\n" not in license_ else None
    return Distribution(name, metadata["Version"], short, ())


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _requirements(name: str, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for line in _declared(name):
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


def _declared(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:  # this package, in a checkout that is not installed
        project = tomllib.loads((_CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]
        engines = [line for extra in sorted(_EXTRAS) for line in project["optional-dependencies"][extra]]
        return [*project["dependencies"], *engines]
