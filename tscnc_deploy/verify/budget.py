"""Limits on the cost of an evaluation."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tscnc_deploy.errors import InputError

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_UNITS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "min", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hour", "hours"), "h"),
    **dict.fromkeys(("q", "query", "queries"), "q"),
}
_FORMS = "write a time such as 90s, 10m or 2h, or a number of queries such as 50000q"


@dataclass(frozen=True)
class Budget:
    """A limit on time, on queries, or on both.

    Attributes:
        seconds: Maximum time, positive; None means no limit.
        queries: Maximum number of images that the victim classifies, at least 1; None means no limit.

    Raises:
        InputError: The limit is not positive.
    """

    seconds: float | None = None
    queries: int | None = None

    def __post_init__(self) -> None:
        # Written so that NaN, which compares false with everything, is refused too.
        if self.seconds is not None and not self.seconds > 0:
            msg = f"a budget of {self.seconds:g} seconds leaves no time for an attack; {_FORMS}"
            raise InputError(msg)
        if self.queries is not None and self.queries < 1:
            msg = f"a budget of {self.queries} queries leaves none for an attack; {_FORMS}"
            raise InputError(msg)


def parse_budget(text: str) -> Budget:
    """Parses a budget given on the command line.

    Args:
        text: A number with a unit: s, m or h for a time, q for queries, or the unit spelled out, as in "50000 queries".

    Raises:
        InputError: It does not have this form, is not positive, or is a fraction of a query.
    """
    match = re.fullmatch(r"\s*([+-]?\d{1,12}(?:\.\d{1,12})?)\s*([a-z]*)\s*", text.lower(), re.ASCII)
    unit = _UNITS.get(match[2]) if match else None
    if match is None or unit is None:
        bare = match is not None and not match[2]
        hint = f"; write {match[1]}s for seconds or {match[1]}q for queries" if match and bare else f"; {_FORMS}"
        msg = f"--budget {text} {'has no unit' if bare else 'is not a budget'}{hint}"
        raise InputError(msg)
    if unit != "q":
        return Budget(seconds=float(match[1]) * _SECONDS[unit])
    if "." in match[1]:
        msg = f"--budget {text} is not a whole number of queries; {_FORMS}"
        raise InputError(msg)
    return Budget(queries=int(match[1]))
