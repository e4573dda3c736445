"""Reads records of earlier versions: the only module that knows how they differed.

Guarantees: records of every schema in `SCHEMAS` can be read, with every figure bit-identical. Fields that an older
schema did not have, or that meant something else in it, are None; `MISSING` describes them. Records of other schemas,
such as later ones, are refused. Unknown keys are dropped, so a later version may add keys without a new schema; it
needs a new schema only when the meaning of a key changes or a key is removed.
"""

from __future__ import annotations

from typing import Any, Final

from tscnc_deploy.text import quoted

SCHEMA: Final = "tscnc-record/1"
# Before the key "schema" was introduced.
UNVERSIONED: Final = "tscnc-record/0"
SCHEMAS = (UNVERSIONED, SCHEMA)

# What records of an older schema cannot show.
MISSING = {
    UNVERSIONED: "it has no schema; attack settings that are lists, such as several losses, are missing; its "
    "corruptions are not the published ones and are not read",
}


def migrate(document: Any) -> Any:
    """Converts a record to this version's form; "schema" keeps the name of the schema that it was written with.

    Args:
        document: Parsed JSON, not modified. Values that are not tables are returned unchanged; validation refuses them.

    Raises:
        ValueError: A schema that this version does not know.
    """
    if not isinstance(document, dict):
        return document
    schema = document.get("schema", UNVERSIONED)
    if schema not in SCHEMAS:
        said = quoted(schema) if isinstance(schema, str) else "not a string"
        msg = f"has a schema that this version does not know: it is {said}; known schemas are {', '.join(SCHEMAS)}"
        raise ValueError(msg)
    return _from_unversioned(document) if schema == UNVERSIONED else document


def _from_unversioned(document: dict[str, Any]) -> dict[str, Any]:
    """Renames and removes keys of a record without a schema.

    The share of images without a known adversarial example was called "standing", and is called "robust". The
    corruptions were other ones than those of CIFAR-10-C, which the key means now.
    """
    changed: dict[str, Any] = {"schema": UNVERSIONED, **document}
    if isinstance(document.get("evaluations"), dict):
        evaluations = dict(document["evaluations"])
        for name in ("dense", "twin"):
            if name in evaluations:
                evaluations[name] = _evaluation(evaluations[name])
        if isinstance(evaluations.get("engines"), dict):
            evaluations["engines"] = {name: _evaluation(value) for name, value in evaluations["engines"].items()}
        changed["evaluations"] = evaluations
    return changed


def _evaluation(value: Any) -> Any:
    # Only what changes is copied: a deep copy of an untrusted record of many small lists takes seconds.
    if not isinstance(value, dict) or not isinstance(value.get("measures"), dict):
        return value
    measures = {name: measured for name, measured in value["measures"].items() if name != "corruptions"}
    found = measures.get("smallest-epsilon")
    if isinstance(found, dict) and "standing" in found:
        measures["smallest-epsilon"] = {"robust" if key == "standing" else key: each for key, each in found.items()}
    return {**value, "measures": measures}
