"""How every command starts and ends: found by name, imported late, and its errors turned into exit statuses."""

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

DEFECT = 70  # EX_SOFTWARE of sysexits.h; Python's own 1 would read as a failed gate
INTERRUPTED = 128 + signal.SIGINT
BROKEN_PIPE = 128 + 13  # SIGPIPE, which not every system names
TERMINATED = 128 + signal.SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where Ctrl-C would be, so that one way of stopping leaves one state behind."""


class Program(click.Group):
    """A group whose commands are modules of this package; each defines a command of its name, with - for _."""

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
        """Runs the command and turns what it raises into a message and an exit status, see `tscnc_deploy.cli`."""
        try:
            with _quiet_libraries(), _sigterm_as_interrupt():
                try:
                    return super().invoke(ctx)
                finally:
                    sys.stdout.flush()  # here, where a reader that has gone is dealt with, and not at the very end
        except TscncError as error:
            for line in str(error).splitlines():
                click.echo(f"error: {line}", err=True)
            ctx.exit(error.exit_status)
        except KeyboardInterrupt as interrupt:
            click.echo("interrupted; run the same command again to resume", err=True)
            ctx.exit(TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED)
        except BrokenPipeError:
            # The interpreter flushes once more on its way out, which must not find the broken pipe again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(BROKEN_PIPE)
        except (click.exceptions.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception:
            traceback.print_exc()
            click.echo("error: this is a defect of tscnc-deploy; please report it with the lines above", err=True)
            ctx.exit(DEFECT)


def _module(command: str) -> str:
    return command.replace("-", "_")


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keeps libraries' warnings to their developers off standard error, unless the user asked Python for warnings."""
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        yield


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # Python takes signals in the main thread only
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated
