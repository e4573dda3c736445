"""Standard streams that are closed or full: an error with a message, for whatever writes to them."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

BROKEN_PIPE = 128 + 13  # SIGPIPE, which is not defined on every system
BAD_OUTPUT = 2


class OutputError(BaseException):
    """Standard output cannot be written.

    Not an `Exception`, because the code that prints should not have to tell this from its own errors.

    Attributes:
        exit_status: 2; 141 if its reader has gone, which is not an error.
    """

    def __init__(self, reason: str, exit_status: int = BAD_OUTPUT) -> None:
        super().__init__(f"standard output cannot be written: {reason}")
        self.exit_status = exit_status


class _Output(io.FileIO):
    """Descriptor 1, with its own kind of error."""

    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError as error:
            raise OutputError("its reader has gone", BROKEN_PIPE) from error
        except OSError as error:
            raise OutputError(error.strerror or str(error)) from error


@contextmanager
def checked_streams() -> Iterator[None]:
    """Context in which writing to a standard output that is closed or full raises `OutputError`.

    Descriptors 0 and 2 are opened if they are closed; otherwise the next file would get their number, and messages
    would be written into it. A standard output that is not the process's own, as in tests, is left alone.

    Raises:
        OutputError: Standard output is closed.
    """
    for number in (0, 2):
        if not _is_open(number):
            _open_null(number)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    if not _is_open(1):
        # Reserved, so that no file gets the number; what is written there by compiled code is lost.
        _open_null(1)
        sys.stdout = None
    if sys.stdout is None:
        raise OutputError("it is closed; redirect it to /dev/null to run without")
    before = sys.stdout
    if before is not sys.__stdout__ or not isinstance(before, io.TextIOWrapper):
        yield
        return
    before.flush()
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(1, "w", closefd=False)),
        encoding=before.encoding,
        errors=before.errors,
        line_buffering=before.line_buffering,
        write_through=before.write_through,
    )
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OutputError:
        # Everything is flushed again when the interpreter exits, which must not fail once more.
        _open_null(1)
        raise
    finally:
        with suppress(OutputError):
            sys.stdout.flush()
        sys.stdout = before


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _open_null(number: int) -> None:
    """Makes /dev/null the file of a descriptor."""
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)
