"""Maps the logits of a model to the classes of the data set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tscnc_deploy.errors import InputError
from tscnc_deploy.text import did_you_mean

Names = tuple[str | None, ...]
"""The class of each logit, by its index; None if unknown."""

_FORMS = "names of classes separated by commas, a .txt file with one per line, or a .json file"
_MAX_BYTES = 1 << 24
_MAX_PLACE = 100_000
_SHOWN = 3


def read_names(text: str) -> Names:
    """Parses the class of each logit of a model, in the order of the logits.

    Args:
        text: Class names, or indices of the data set's classes, separated by commas; or a file: .txt with one per line,
            or .json with a list, or with an object that maps the index of a logit to its class, such as {"0": "cat"},
            at the top level or under "id2label" or "label_names" of a model's config.json.

    Raises:
        InputError: The file cannot be read or has another format, or a name is empty.
    """
    suffix = Path(text).suffix.lower()
    if suffix == ".txt":
        names: Names = tuple(line.strip() for line in _text(text).rstrip().split("\n"))
    elif suffix == ".json":
        names = _from_json(text)
    else:
        _refuse_other_file(text)
        names = tuple(part.strip() for part in text.split(","))
    if "" in names:
        msg = f"--labels {text}: name {names.index('') + 1} is empty; write {_FORMS}"
        raise InputError(msg)
    return names


def order_of(names: Names, classes: Sequence[str], *, outputs: int | None = None) -> tuple[int, ...]:
    """For each class of the data set, the index of its logit; other logits are dropped.

    If the names are integers and the class names are not, they are indices of classes.

    Raises:
        InputError: A class has no logit or several, an index is out of range, or the model has another number of
            logits; fewer names are only allowed if there are gaps between their indices.
    """
    if outputs is not None and (len(names) > outputs or (len(names) < outputs and None not in names)):
        msg = f"--labels names {len(names)} logits, but the model has {outputs}"
        raise InputError(msg)
    wanted = tuple(classes)
    if not set(wanted) <= set(names) and all(name is None or _is_whole(name) for name in names):
        wanted = tuple(str(index) for index in range(len(classes)))
        names = tuple(name and str(int(name)) for name in names)
        if unknown := [name for name in names if name is not None and name not in wanted]:
            msg = f"--labels names class {unknown[0]}; the data set has {len(classes)}, from 0 to {len(classes) - 1}"
            raise InputError(msg)
    places: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(names):
        if name is not None:
            places[name].append(place)
    if missing := [name for name in wanted if name not in places]:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        listed = ", ".join(repr(name) for name in missing[:_SHOWN])
        msg = f"--labels names no {listed}{more} of the data set's classes{did_you_mean(missing[0], places)}"
        raise InputError(msg)
    if double := [name for name in wanted if len(places[name]) > 1]:
        where = " and ".join(map(str, places[double[0]][:2]))
        msg = f"--labels gives the class {double[0]!r} to the logits {where}; each class has one"
        raise InputError(msg)
    return tuple(places[name][0] for name in wanted)


def _text(path: str) -> str:
    try:
        # Some editors start UTF-8 files with a byte-order mark.
        return _content(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"--labels {path}: is not UTF-8 text"
        raise InputError(msg) from error


def _content(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        msg = f"--labels {path}: cannot be read: {error.strerror}"
        raise InputError(msg) from error
    if not 0 < len(content) <= _MAX_BYTES:
        msg = f"--labels {path}: {'is empty' if not content else f'has more than {_MAX_BYTES} bytes'}"
        raise InputError(msg)
    return content


def _refuse_other_file(text: str) -> None:
    with suppress(OSError, ValueError):  # a list of names can be too long for a path
        if Path(text).is_file():
            msg = f"--labels {text}: is not a .txt or .json file; write {_FORMS}"
            raise InputError(msg)


def _from_json(path: str) -> Names:
    from tscnc_deploy import strict_json

    try:
        # Strict, because of duplicate keys only the last would count.
        document = strict_json.loads(_content(path))
    except ValueError as error:
        msg = f"--labels {path}: {error}"
        raise InputError(msg) from error
    if isinstance(document, dict):
        document = document.get("id2label") or document.get("label_names") or document
    given = dict(enumerate(document)) if isinstance(document, list) else _by_place(document)
    if not given or not all(isinstance(name, str | int) and not isinstance(name, bool) for name in given.values()):
        msg = (
            f"--labels {path}: is neither a list of names nor an object that maps indices of logits to names, such as "
            f'{{"0": "cat", "1": "dog"}}, with indices below {_MAX_PLACE}'
        )
        raise InputError(msg)
    return tuple(str(given[place]).strip() if place in given else None for place in range(max(given) + 1))


def _by_place(document: object) -> dict[int, object]:
    """The values of an object whose keys are distinct indices; empty if they are not."""
    if not isinstance(document, dict) or not all(_is_whole(key) for key in document):
        return {}
    by_place = {int(key): name for key, name in document.items()}
    return by_place if len(by_place) == len(document) and max(by_place, default=0) < _MAX_PLACE else {}


def _is_whole(text: str) -> bool:
    # Python refuses to parse numbers with thousands of digits.
    return text.isdecimal() and len(text) < 10
