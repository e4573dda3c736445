"""Adds to errors how far a long evaluation had come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tscnc_deploy.errors import TscncError


@contextmanager
def error_context(where: str) -> Iterator[None]:
    """Prefixes the message of errors raised inside with `where`, keeping their class and exit status.

    Unexpected errors get it as a note at the end of their traceback.

    Args:
        where: Such as "pgd-20, after 64 of 256 images".
    """
    try:
        yield
    except TscncError as error:
        msg = f"{where}: {error}"
        raise type(error)(msg) from error
    except Exception as error:
        error.add_note(where)
        raise
