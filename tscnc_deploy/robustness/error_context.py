"""Says where a long evaluation was when something in it failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tscnc_deploy.errors import TscncError


@contextmanager
def error_context(where: str) -> Iterator[None]:
    """Puts the place in front of the message of an error from inside, whose class and exit status stay what they are.

    Errors that are no message to the user get it as a note, which their traceback ends with.

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
