"""Which names files may have that a report is written to."""

from __future__ import annotations

from pathlib import Path

from tscnc_deploy.errors import InputError


def check_suffix(path: Path, suffixes: tuple[str, ...]) -> None:
    """Refuses a path that ends in none of the suffixes, such as ".csv".

    Raises:
        InputError: Names those that are possible.
    """
    if path.suffix.lower() not in suffixes:
        msg = f"{path}: the name of this file must end in {' or '.join(suffixes)}"
        raise InputError(msg)
