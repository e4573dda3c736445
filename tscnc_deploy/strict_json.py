"""JSON from untrusted sources: unambiguous documents, bounded depth, finite numbers."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, NoReturn

from tscnc_deploy.text import quoted

MAX_DEPTH = 32
MAX_DIGITS = 18  # every integer with that many digits fits into 64 bits


def loads(data: bytes, *, max_items: int | None = None) -> Any:
    """Parses a JSON document, refusing anything that parsers could interpret differently.

    Args:
        data: The document in UTF-8; the caller must bound its length.
        max_items: Maximum number of commas and brackets. This bounds the number of values, and so the memory that
            they need: at most about 200 bytes each, in addition to their text. None for no limit.

    Raises:
        ValueError: Not UTF-8 or not JSON (RFC 8259), a key twice in one object, NaN, a number too large for 64 bits,
            half of a surrogate pair, more than `MAX_DEPTH` levels, or more than `max_items`. The message is one line,
            continues a sentence that begins with the file, and contains nothing of the document unescaped.
    """
    if max_items is not None and (items := count_items(data)) > max_items:
        msg = f"holds about {items} values; at most {max_items} are allowed"
        raise ValueError(msg)
    too_deep = f"is nested deeper than {MAX_DEPTH} levels"
    try:
        text = data.decode("utf-8")
        document = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_integer
        )
        if "\\ud" in text or "\\uD" in text:
            # A lone surrogate parses, but fails much later, where the string is printed or written.
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError(too_deep) from None
    except UnicodeError:
        msg = "is not text in UTF-8"
        raise ValueError(msg) from None
    except json.JSONDecodeError as error:
        msg = f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise ValueError(msg) from None
    if _is_deeper(document, MAX_DEPTH):
        raise ValueError(too_deep)
    return document


def dumps(document: Any, *, sort_keys: bool = True) -> bytes:
    """A document in the format of a bundle's files: indented ASCII with a final newline.

    Args:
        document: A value that JSON can represent.
        sort_keys: Whether to sort keys, so that equal documents give equal bytes; False keeps a meaningful order.

    Raises:
        ValueError: A number is NaN or infinite, which JSON cannot represent.
    """
    return (json.dumps(document, sort_keys=sort_keys, indent=2, allow_nan=False) + "\n").encode("ascii")


def count_items(data: bytes) -> int:
    """Commas and opening brackets of a JSON document: at least as many as it has values, but for the outermost."""
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        msg = f"has the key {quoted(twice)} twice in one object"
        raise ValueError(msg)
    return result


def _constant(name: str) -> NoReturn:
    msg = f"holds {name}, which is not a JSON number"
    raise ValueError(msg)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        msg = f"holds the number {quoted(digits)}, which is too large"
        raise ValueError(msg)
    return value


def _integer(digits: str) -> int:
    if len(digits.removeprefix("-")) > MAX_DIGITS:
        msg = f"holds the number {quoted(digits)}, which is too large"
        raise ValueError(msg)
    return int(digits)


def _is_deeper(document: Any, limit: int) -> bool:
    # Level by level, so that the check itself needs no recursion.
    level = _containers([document])
    for _ in range(limit):
        level = [child for node in level for child in _containers(node.values() if type(node) is dict else node)]
        if not level:
            return False
    return True


def _containers(nodes: Iterable[Any]) -> list[Any]:
    return [node for node in nodes if type(node) is dict or type(node) is list]
