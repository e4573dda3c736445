"""Changes one field of record, manifest or recipe of a bundle, and seals it again."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.check import forging
from tscnc_deploy import open_bundle
from tscnc_deploy.recipe import Recipe
from tscnc_deploy.recipe.file import to_toml
from tscnc_deploy.report.card import render_card
from tscnc_deploy.report.html import render_report

Place = tuple[str | int, ...]


def documents(folder: Path) -> dict[str, Any]:
    """The three documents by name; of the manifest all but what `seal` writes."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return {
        "record": json.loads((folder / "evidence" / "evidence.json").read_text()),
        "manifest": {key: value for key, value in manifest.items() if key not in ("files", "schema")},
        "recipe": tomllib.loads((folder / "recipe.toml").read_text()),
    }


def fields(document: Any, place: Place = ()) -> Iterator[Place]:
    """The places of all values that are not tables or lists, but for empty ones."""
    inside = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in inside:
        if isinstance(value, dict | list) and value:
            yield from fields(value, (*place, key))
        else:
            yield (*place, key)


def changed(value: Any) -> Any:
    """Another value of the same type, not far away."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value * 0.75 + 0.01
        case str():
            return value + "x"
        case None:
            return 1
        case list():
            return [1]
        case _:
            return {"x": 1}


def change(folder: Path, name: str, place: Place) -> None:
    """Changes one field of "record", "manifest" or "recipe", and makes digests, report and card match.

    Raises:
        InputError: The changed record is refused when it is read.
        ValueError: The changed recipe or manifest is refused.
    """
    document = documents(folder)[name]
    inside = document
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = changed(inside[place[-1]])
    if name == "manifest":
        whole = json.loads((folder / "manifest.json").read_text()) | document
        (folder / "manifest.json").write_text(json.dumps(whole))
        return
    if name == "recipe":
        (folder / "recipe.toml").write_text(to_toml(Recipe.model_validate(document)))
        forging.reseal(folder)
        return
    (folder / "evidence" / "evidence.json").write_text(json.dumps(document))
    forging.reseal(folder)
    record = open_bundle(folder).record
    (folder / "report.html").write_text(render_report(record, drawings=False))
    (folder / "README.md").write_text(render_card(record))
    forging.reseal(folder)


def dotted(name: str, place: Place) -> str:
    """ "record.layers.0.kappa"."""
    return ".".join(map(str, (name, *place)))
