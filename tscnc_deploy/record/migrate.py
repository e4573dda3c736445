"""Records of earlier versions, read by this one: the only place that knows how they differed.

What is guaranteed: a record of every schema in `SCHEMAS` is read, each figure with the bits that it was written with;
what its schema had no place for is None, and `MISSING` says in words what that is. A record of a schema that is not
listed, such as one of a later version, is refused. Keys that this version does not know are dropped, so a later version
may add keys without a new schema; it needs one where a key changes its meaning, or goes.
"""

from __future__ import annotations

import copy
from typing import Any, Final

from tscnc_deploy.text import quoted

SCHEMA: Final = "tscnc-record/1"
# Before there were versions: the record had no key "schema".
UNVERSIONED: Final = "tscnc-record/0"
SCHEMAS = (UNVERSIONED, SCHEMA)

# What records of an older schema cannot show.
MISSING = {
    UNVERSIONED: "it names no schema, and settings of attacks that are lists, such as several losses, have no place "
    "in it; its corruptions are not the published ones, and their levels are not read",
}


def migrate(document: Any) -> Any:
    """A record as this version has it; "schema" keeps the name of the one that it was written in.

    Args:
        document: Parsed JSON, which is left as it is. What is not a table is given back, for the validation to refuse.

    Raises:
        ValueError: A schema that this version does not know.
    """
    if not isinstance(document, dict):
        return document
    schema = document.get("schema", UNVERSIONED)
    if schema not in SCHEMAS:
        said = quoted(schema) if isinstance(schema, str) else "not a string"
        msg = f"has a schema that this version does not know: it is {said}, known are {', '.join(SCHEMAS)}"
        raise ValueError(msg)
    return _from_unversioned(document) if schema == UNVERSIONED else document


def _from_unversioned(document: dict[str, Any]) -> dict[str, Any]:
    """The share of images without a known adversarial example was called "standing", and is called "robust"."""
    changed: dict[str, Any] = {"schema": UNVERSIONED, **copy.deepcopy(document)}
    evaluations = _table(changed.get("evaluations"))
    for evaluation in (evaluations.get("dense"), evaluations.get("twin"), *_table(evaluations.get("engines")).values()):
        found = _table(_table(_table(evaluation).get("measures")).get("smallest-epsilon"))
        if "standing" in found:
            found["robust"] = found.pop("standing")
    return changed


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
