"""Pydantic's errors about an untrusted document, on one line."""

from __future__ import annotations

from pydantic import ValidationError

from tscnc_deploy.text import escaped, quoted


def first_problem(error: ValidationError) -> str:
    """The first of pydantic's errors on one line: the key, the problem, and the value if it is short."""
    problem = error.errors(include_url=False)[0]
    reason = problem["msg"].removeprefix("Value error, ")
    place, value = [str(part) for part in problem["loc"]], problem["input"]
    if place[-1:] == ["[key]"]:
        return f"{place[0]} has the key {quoted(str(value))}: {reason}"
    shown = f" = {quoted(str(value))}" if isinstance(value, str | int | float) else ""
    return f"{escaped('.'.join(place))}{shown}: {reason}" if place else reason
