"""A missed gate in words, for the error at the end of `build` and `verify`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tscnc_deploy.text import number


def missed_gate(gate: Mapping[str, Any], engine: str = "") -> str:
    """A failed gate with its value and what is required: "twin: robust accuracy, lower end: 0.78, at least 0.8 ...".

    Args:
        gate: As in the JSON of a build.
        engine: Its engine, if the gate's name does not begin with it.
    """
    name = f"{engine}: {gate['name']}" if engine else gate["name"]
    value, limit = gate["value"], gate["limit"]
    if value is None or limit is None:
        return f"{name}: not finite"
    if value == limit:  # A failed gate on a count, such as one of zeros, may name the same number.
        return f"{name}: {number(value)}"
    side = "at least" if value < limit else "at most"
    return f"{name}: {number(value)}, {side} {number(limit)} is required"
