"""Text for messages: numbers, suggestions for unknown words, and untrusted text that is safe to print."""

from __future__ import annotations

import math
from collections.abc import Iterable
from difflib import get_close_matches


def any_of(words: Iterable[str]) -> str:
    """The words as a phrase: "a", "a or b", "a, b or c"."""
    *head, last = words
    return f"{', '.join(head)} or {last}" if head else last


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that this one resembles most, ignoring case; None if it resembles none."""
    folded = {name.casefold(): name for name in known}
    close = get_close_matches(word.casefold(), folded, n=1)
    return folded[close[0]] if close else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message: "; did you mean x?" for the known word closest to this one, or "" if none is close."""
    match = closest(word, known)
    return "" if match is None else f"; did you mean {match}?"


def not_among(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: the known words, and the closest one."""
    names = tuple(known)
    return f"is not {any_of(names)}{did_you_mean(word, names)}"


def number(value: float) -> str:
    """A measured number: whole ones in full, "10,605,040", others with six significant digits, "0.896721"."""
    # From 2**53 on every float is whole, and digits after the sixteenth mean nothing.
    if math.isfinite(value) and value == int(value) and abs(value) < 2**53:
        return f"{int(value):,}"
    return f"{value:.6g}"


def escaped(text: str, limit: int = 80) -> str:
    """Untrusted text for a message: escaped to ASCII and truncated, so that it cannot control the terminal.

    Args:
        text: Any text.
        limit: Maximum number of characters to keep; "..." replaces the rest.
    """
    return _no_command(ascii(text if len(text) <= limit else text[:limit] + "...")[1:-1])


def quoted(text: str) -> str:
    """`escaped` text in quotes."""
    return _no_command(ascii(text if len(text) <= 80 else text[:80] + "..."))


def printable(text: str) -> str:
    """Text for a terminal without escaping letters; every non-printable character becomes U+FFFD."""
    plain = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return _no_command(plain)


def _no_command(text: str) -> str:
    """Text in which the runners of GitHub and Azure find no command: they look for "##[" and "##vso[" in any line."""
    return text.replace("##", "#\\x23")
