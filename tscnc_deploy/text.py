"""What to write instead of a word that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def any_of(words: Iterable[str]) -> str:
    """The words as a phrase: "a", "a or b", "a, b or c"."""
    *head, last = words
    return f"{', '.join(head)} or {last}" if head else last


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that this one resembles most, whatever the case; None if it resembles none."""
    folded = {name.casefold(): name for name in known}
    close = get_close_matches(word.casefold(), folded, n=1)
    return folded[close[0]] if close else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message: "; did you mean x?" for the known word closest to this one, or "" if none is close."""
    match = closest(word, known)
    return "" if match is None else f"; did you mean {match}?"


def not_among(word: str, known: Iterable[str]) -> str:
    """The end of a message about a word that is none of the known ones: which there are, and which is closest."""
    names = tuple(known)
    return f"is not {any_of(names)}{did_you_mean(word, names)}"
