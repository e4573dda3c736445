"""Runs commands: finds them by name, imports them on demand, and converts errors to exit statuses."""

from __future__ import annotations

import gc
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import click

from tscnc_deploy.cli.common.interrupts import INTERRUPTED, MESSAGE, TERMINATED, Terminated, interruptible
from tscnc_deploy.cli.common.streams import BROKEN_PIPE, OutputError, checked_streams
from tscnc_deploy.errors import TscncError
from tscnc_deploy.text import did_you_mean, printable
from tscnc_deploy.threads import configure

COMMANDS = (
    "build",
    "verify",
    "check",
    "bench",
    "inspect",
    "report",
    "sweep",
    "serve",
    "export",
    "sign",
    "verify-signature",
    "recipes",
    "targets",
    "init",
    "doctor",
)

INTERNAL_ERROR = 70  # EX_SOFTWARE in sysexits.h; Python's default of 1 would mean a failed gate


class Program(click.Group):
    """A group whose commands are the modules of `tscnc_deploy.cli`, named like the commands with _ for -."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if find_spec(f"tscnc_deploy.cli.{_module(name)}")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = getattr(import_module(f"tscnc_deploy.cli.{_module(cmd_name)}"), _module(cmd_name))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if not ctx.resilient_parsing and args[0] not in known and not args[0].startswith("-"):
            ctx.fail(f"No such command '{args[0]}'{did_you_mean(args[0], known) or '.'}")
        return super().resolve_command(ctx, args)

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Runs the program; a standard output that is closed or full is one line on standard error and status 2."""
        try:
            with checked_streams():
                return super().main(*arguments, **options)
        except OutputError as error:
            if error.exit_status != BROKEN_PIPE:
                click.echo(f"error: {error}", err=True)
            sys.exit(error.exit_status)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command and converts errors to a message and an exit status, see `tscnc_deploy.cli`."""
        try:
            with _quiet_libraries(), interruptible():
                # Here, as OpenMP reads its environment when a command imports torch.
                configure()
                try:
                    return super().invoke(ctx)
                finally:
                    sys.stdout.flush()
        except TscncError as error:
            # Messages may quote a file or a library that quotes one.
            for line in str(error).splitlines():
                click.echo(f"error: {printable(line)}", err=True)
            ctx.exit(error.exit_status)
        except KeyboardInterrupt as interrupt:
            click.echo(MESSAGE, err=True)
            # Otherwise the garbage collector first goes through all of torch, which supervisors do not wait for.
            gc.freeze()
            _hide_leaks()
            ctx.exit(TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED)
        except BrokenPipeError:  # of standard error
            ctx.exit(BROKEN_PIPE)
        except (click.exceptions.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception:
            traceback.print_exc()
            click.echo("error: internal error; please report it with the lines above", err=True)
            ctx.exit(INTERNAL_ERROR)


def _module(command: str) -> str:
    return command.replace("-", "_")


def _hide_leaks() -> None:
    """Drops what libraries print of objects that are not freed at the end, which is on purpose here."""
    stream = sys.__stderr__
    if stream is not None and sys.stderr is stream:  # of a process of its own
        stream.flush()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Hides the warnings of libraries, unless the user enabled Python's warnings."""
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        yield
