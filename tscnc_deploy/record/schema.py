"""The record's JSON Schema, for tools in other languages that read a bundle; it ships as export/record.schema.json."""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from tscnc_deploy.record.build import BuildRecord


def record_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of every record that this version reads without conversion.

    Additional keys are allowed. A record without the key "schema" has the schema that `record.migrate` calls
    tscnc-record/0; it matches too, except for the key that `migrate` renames.
    """
    return {"$schema": GenerateJsonSchema.schema_dialect, **BuildRecord.model_json_schema(by_alias=True)}


def schema_text() -> str:
    """The schema as shipped and printed; the same version always gives the same text."""
    return json.dumps(record_schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
