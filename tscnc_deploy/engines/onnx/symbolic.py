"""The numbers in an ONNX graph that are computed from the batch's size, followed symbolically.

Exporters compute shapes at run time: they take the sizes of a tensor, pick one, multiply it, join it with constants,
and reshape. Here each such number is a constant, a multiple of the batch's size, or something else that depends on it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any


@dataclass(frozen=True)
class Times:
    """The batch's size times a positive factor."""

    factor: Fraction


class Other(Enum):
    """Numbers of which only this is known.

    Attributes:
        FREE: It does not depend on the batch's size.
        DERIVED: It depends on the batch's size, and is not a multiple of it.
    """

    FREE = "free"
    DERIVED = "derived"


FREE, DERIVED = Other.FREE, Other.DERIVED
Number = int | Times | Other
Numbers = tuple[Number, ...]

MOST = 64
"""Longer vectors are not followed element by element."""
# Integers up to here are exact in every type that shapes are computed in.
_EXACT = 1 << 24


def is_sized(numbers: Sequence[Number]) -> bool:
    """Whether any of the numbers depends on the batch's size."""
    return any(isinstance(number, Times) or number is DERIVED for number in numbers)


def size_of_axis(first: int | None, second: int | None, batches: tuple[int, int]) -> Number:
    """The size of an axis, given its sizes for two batches."""
    if first is None or second is None:
        return DERIVED
    if first == second:
        return first
    factor = Fraction(first, batches[0])
    return Times(factor) if factor > 0 and factor == Fraction(second, batches[1]) else DERIVED


def product(numbers: Sequence[Number]) -> Number:
    """The product of all of them."""
    total: Number = 1
    for number in numbers:
        total = _times(total, number)
    return total


def elementwise(op: str, operands: Sequence[Numbers]) -> Numbers | None:
    """The result of an elementwise operator on vectors and scalars; None if it is not known what it computes."""
    lengths = {len(numbers) for numbers in operands if len(numbers) != 1}
    if len(lengths) > 1:
        return None
    length = lengths.pop() if lengths else 1
    rows = zip(*(numbers * length if len(numbers) == 1 else numbers for numbers in operands), strict=True)
    if op == "Where":
        return tuple(_where(*row) for row in rows) if len(operands) == 3 else None
    rule = _BINARY.get(op)
    return tuple(rule(*row) for row in rows) if rule and len(operands) == 2 else None


def _where(condition: Number, yes: Number, no: Number) -> Number:
    if isinstance(condition, int):
        return yes if condition else no
    if yes == no:
        return yes
    return DERIVED if condition is not FREE or is_sized((yes, no)) else FREE


def _times(one: Number, other: Number) -> Number:
    if isinstance(other, Times):
        one, other = other, one
    if isinstance(one, Times) and isinstance(other, int) and other >= 0:
        return Times(one.factor * other) if other else 0
    return _known(operator.mul, one, other)


def _divided(one: Number, other: Number) -> Number:
    if isinstance(one, Times) and isinstance(other, Times):
        quotient = one.factor / other.factor
        return int(quotient) if quotient.denominator == 1 else DERIVED
    if isinstance(one, Times) and isinstance(other, int) and other > 0:
        factor = one.factor / other
        # A quotient that is not an integer would be rounded.
        return Times(factor) if factor.denominator == 1 else DERIVED
    return _known(lambda a, b: a // b if a % b == 0 else None, one, other)


def _added(one: Number, other: Number, sign: int = 1) -> Number:
    if isinstance(one, Times) and isinstance(other, Times):
        factor = one.factor + sign * other.factor
        return Times(factor) if factor > 0 else (0 if factor == 0 else DERIVED)
    if isinstance(one, Times) and other == 0:
        return one
    if isinstance(other, Times) and one == 0 and sign == 1:
        return other
    return _known(operator.add if sign == 1 else operator.sub, one, other)


def _largest(one: Number, other: Number) -> Number:
    for first, second in ((one, other), (other, one)):
        if isinstance(first, Times) and isinstance(second, int) and second <= first.factor:
            return first
    return _known(max, one, other)


def _compared(compare: Callable[[Any, Any], bool]) -> Callable[[Number, Number], Number]:
    def rule(one: Number, other: Number) -> Number:
        if isinstance(one, Times) and isinstance(other, int) and other <= 0:
            return int(compare(1, other))  # every multiple is above
        if isinstance(other, Times) and isinstance(one, int) and one <= 0:
            return int(compare(one, 1))
        return _known(lambda a, b: int(compare(a, b)), one, other)

    return rule


def _known(compute: Callable[[int, int], int | None], one: Number, other: Number) -> Number:
    if is_sized((one, other)):
        return DERIVED
    if not isinstance(one, int) or not isinstance(other, int) or max(abs(one), abs(other)) > _EXACT:
        return FREE
    try:
        found = compute(one, other)
    except ArithmeticError:
        return FREE
    return FREE if found is None else found


_BINARY: Mapping[str, Callable[[Number, Number], Number]] = {
    "Add": _added,
    "Sub": lambda one, other: _added(one, other, -1),
    "Mul": _times,
    "Div": _divided,
    "Max": _largest,
    "Min": lambda one, other: _known(min, one, other),
    "Equal": _compared(operator.eq),
    "Greater": _compared(operator.gt),
    "GreaterOrEqual": _compared(operator.ge),
    "Less": _compared(operator.lt),
    "LessOrEqual": _compared(operator.le),
}
