"""Checks of the names of output files."""

from __future__ import annotations

from pathlib import Path

from tscnc_deploy.errors import InputError


def check_suffix(path: Path, suffixes: tuple[str, ...]) -> None:
    """Refuses a path without one of the suffixes, such as ".csv".

    Raises:
        InputError: The message lists the possible suffixes.
    """
    if path.suffix.lower() not in suffixes:
        msg = f"{path}: the name of this file must end in {' or '.join(suffixes)}"
        raise InputError(msg)
