"""Output of the commands: one JSON document for programs, or tables for people."""

from __future__ import annotations

import ctypes
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TypeVar

import click

from tscnc_deploy.text import printable

Command = TypeVar("Command", bound=Callable[..., Any])


def json_option(command: Command) -> Command:
    """Adds --json, passed to the command as `as_json`."""
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print one JSON document on standard output and everything else on standard error.",
    )(command)


def print_json(document: Mapping[str, Any]) -> None:
    """Prints the document, indented; NaN and infinities become null, as JSON cannot represent them."""
    click.echo(json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False))


@contextmanager
def reserve_stdout(as_json: bool) -> Iterator[None]:
    """Context that redirects standard output to standard error, including output of compiled libraries.

    Args:
        as_json: False changes nothing. The one document is printed by `print_json` after this ends.
    """
    if not as_json:
        yield
        return
    _flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        # Output of compiled code may still be in its buffers, which would be flushed to the restored descriptor 1.
        _flush()
        os.dup2(kept, 1)
        os.close(kept)


def _flush() -> None:
    """Flushes the buffers of standard output: Python's, and those of C's stdio, which compiled libraries use."""
    sys.stdout.flush()
    ctypes.CDLL(None).fflush(None)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table: with rules on a terminal, otherwise aligned text that other programs can split.

    Args:
        columns: The headings; empty for a table without headings.
        rows: Cells, shown by str(); control characters are replaced.
    """
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_ruled(columns, cells)
        return
    lines = [list(columns), *cells] if columns else cells
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def write_page(page: str, out: Path) -> None:
    """Writes a page to the file of --out, and prints its whole path.

    Raises:
        StorageError: It cannot be written.
    """
    from tscnc_deploy.files import write_atomic

    write_atomic(out, page)
    click.echo(f"written: {out.absolute()}")


def _print_ruled(columns: Sequence[str], cells: list[list[str]]) -> None:
    # rich is imported here because a global import would double the time of --help.
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_header=bool(columns))
    for heading in columns or [""] * len(cells[0] if cells else []):
        table.add_column(Text(heading))
    for row in cells:
        table.add_row(*map(Text, row))
    Console().print(table)


def _finite(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None
        case Mapping():
            return {key: _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
    return value
