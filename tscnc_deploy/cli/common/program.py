"""Runs commands: finds them by name, imports them on demand, and converts errors to exit statuses."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import FrameType
from typing import Any

import click

from tscnc_deploy.errors import TscncError
from tscnc_deploy.text import did_you_mean
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
INTERRUPTED = 128 + signal.SIGINT
BROKEN_PIPE = 128 + 13  # SIGPIPE, which is not defined on every system
TERMINATED = 128 + signal.SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised like Ctrl-C, so that both leave the same state."""


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

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command and converts errors to a message and an exit status, see `tscnc_deploy.cli`."""
        try:
            with _quiet_libraries(), _sigterm_as_interrupt():
                # Here, as OpenMP reads its environment when a command imports torch.
                configure()
                try:
                    return super().invoke(ctx)
                finally:
                    sys.stdout.flush()  # here, where BrokenPipeError is handled, and not when the interpreter exits
        except TscncError as error:
            for line in str(error).splitlines():
                click.echo(f"error: {line}", err=True)
            ctx.exit(error.exit_status)
        except KeyboardInterrupt as interrupt:
            click.echo("interrupted; run the same command again to resume", err=True)
            ctx.exit(TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED)
        except BrokenPipeError:
            # The interpreter flushes again at exit, which must not fail on the broken pipe.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(BROKEN_PIPE)
        except (click.exceptions.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception:
            traceback.print_exc()
            click.echo("error: internal error; please report it with the lines above", err=True)
            ctx.exit(INTERNAL_ERROR)


def _module(command: str) -> str:
    return command.replace("-", "_")


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Hides the warnings of libraries, unless the user enabled Python's warnings."""
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        yield


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread only
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated
