"""Parses numbers given on the command line."""

from __future__ import annotations

import math

from tscnc_deploy.errors import InputError

_MAX_SIDE = 4096


def parse_values(text: str, option: str) -> tuple[float, ...]:
    """Parses one value per channel, or one for all.

    Args:
        text: Numbers or quotients separated by commas, such as "0.49,0.48,0.45" or "1/255".
        option: Name of the option, such as "--mean", for messages.

    Raises:
        InputError: One of them is not a finite number.
    """
    values = tuple(_number(part) for part in text.split(","))
    if None in values:
        place = values.index(None)
        msg = (
            f"{option} {text}: {text.split(',')[place].strip()!r} is not a number; write one per channel, for pixels "
            "in [0, 1], such as 0.49,0.48,0.45"
        )
        raise InputError(msg)
    return tuple(value for value in values if value is not None)


def parse_epsilon(text: str) -> float:
    """Parses a radius such as "8/255" or "0.031"; `Threat` checks its range, which depends on the norm.

    Raises:
        InputError: It is not a finite number.
    """
    value = _number(text)
    if value is None:
        msg = f"--epsilon {text} is not a number such as 8/255 or 0.031"
        raise InputError(msg)
    return value


def parse_size(text: str) -> tuple[int, int]:
    """Parses a height and a width such as "224" or "224x192".

    Raises:
        InputError: They are not whole numbers from 1 to 4096.
    """
    parts = text.lower().split("x")
    sides = [int(part) for part in parts if part.isdecimal() and len(part) < 5]
    if len(parts) > 2 or len(sides) < len(parts) or not all(1 <= side <= _MAX_SIDE for side in sides):
        msg = f"--input-size {text} is not a size such as 224 or 224x192, with sides from 1 to {_MAX_SIDE}"
        raise InputError(msg)
    return sides[0], sides[-1]


def check_normalization(mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> None:
    """Refuses an incomplete normalisation.

    Raises:
        InputError: One of the two is missing.
    """
    if (mean is None) != (std is None):
        given, lacking, neutral = ("--mean", "--std", 1) if std is None else ("--std", "--mean", 0)
        msg = f"{given} is given without {lacking}; give both ({lacking} {neutral} has no effect)"
        raise InputError(msg)


def _number(text: str) -> float | None:
    """The value of a number or a quotient of two numbers; None if it is neither, or not finite."""
    try:
        whole, slash, divisor = text.partition("/")
        value = float(whole) / float(divisor) if slash else float(whole)
    except (ValueError, ZeroDivisionError):
        return None
    return value if math.isfinite(value) else None
