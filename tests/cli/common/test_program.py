from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings

import click
import pytest
from click.testing import CliRunner

from tscnc_deploy.cli import main
from tscnc_deploy.cli.common.program import COMMANDS, Program
from tscnc_deploy.errors import RecipeError, UnavailableError

RUN = [sys.executable, "-c", "from tscnc_deploy.cli import main; main(prog_name='tscnc-deploy')"]


class OneCommand(Program):
    """The program with one command, which does what the test wants."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def list_commands(self, ctx):
        return ["work"]

    def get_command(self, ctx, cmd_name):
        return click.Command("work", callback=self.body)


def run(body):
    return CliRunner().invoke(OneCommand(body), ["work"])


def raises(error):
    def body():
        raise error

    return body


def test_success_is_0():
    done = run(lambda: click.echo("done"))
    assert (done.exit_code, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (RecipeError("a.toml: x\na.toml: y"), 2, "error: a.toml: x\nerror: a.toml: y\n"),
        (UnavailableError("pip install x"), 3, "error: pip install x\n"),
        (KeyboardInterrupt(), 130, "interrupted; run the same command again to resume\n"),
    ],
)
def test_errors_become_a_message_and_an_exit_status(error, status, said):
    done = run(raises(error))
    assert (done.exit_code, done.stdout, done.stderr) == (status, "", said)


def test_sigterm_ends_the_command_as_ctrl_c_does():
    before = signal.getsignal(signal.SIGTERM)
    done = run(lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert done.exit_code == 143
    assert done.stderr == "interrupted; run the same command again to resume\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_internal_error_shows_its_traceback_and_asks_for_a_report():
    done = run(raises(ZeroDivisionError("oops")))
    assert done.exit_code == 70
    assert "ZeroDivisionError: oops" in done.stderr
    assert done.stderr.endswith("error: internal error; please report it with the lines above\n")


def test_a_command_chooses_its_own_exit_status():
    assert run(raises(SystemExit(1))).exit_code == 1
    assert run(raises(click.exceptions.Exit(4))).exit_code == 4


def test_warnings_of_libraries_stay_off_standard_error():
    assert run(lambda: warnings.warn("deprecated", DeprecationWarning, stacklevel=1)).stderr == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["recepies"], "No such command 'recepies'; did you mean recipes?"),
        (["zebra"], "No such command 'zebra'."),
        (["recipes", "--jason"], "No such option"),
        (["--zebra"], "No such option"),
        (["init", "a.toml", "b.toml"], "unexpected extra argument"),
    ],
)
def test_usage_errors_are_2(arguments, words):
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stdout == ""


def test_help_lists_the_commands_and_imports_nothing_heavy():
    code = (
        "import sys\nfrom tscnc_deploy.cli import main\ntry:\n main(['--help'])\nexcept SystemExit:\n pass\n"
        "print([m for m in ('torch', 'numpy', 'onnx', 'pydantic', 'rich', 'click') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("['click']\n")
    assert done.stderr == ""
    for command in ("recipes", "targets", "init", "doctor"):
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_short_help_that_is_not_cut_off(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = CliRunner().invoke(main, ["--help"], terminal_width=80).stdout.splitlines()
    line = next(line for line in lines if line.startswith(f"  {command} "))
    assert line.endswith(".")
    assert not line.endswith("...")


def test_the_version_is_shown():
    done = CliRunner().invoke(main, ["--version"])
    assert (done.exit_code, done.stdout.startswith("tscnc-deploy ")) == (0, True)


def test_a_reader_that_has_gone_is_no_error():
    with subprocess.Popen([*RUN, "recipes"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("tscnc-deploy doc", "plain,doctor\n"),
        ("tscnc-deploy init --recipe dig", "plain,digits\n"),
        ("tscnc-deploy init --recipe ./my", "file,./my\n"),
    ],
)
def test_words_are_completed_in_bash(words, completed):
    environment = os.environ | {
        "_TSCNC_DEPLOY_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = subprocess.run(RUN, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == completed
