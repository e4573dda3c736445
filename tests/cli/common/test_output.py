from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tscnc_deploy.cli.common.output import json_option, print_json, print_table, reserve_stdout


def test_json_has_no_nan(capsys):
    print_json({"a": float("nan"), "b": [float("inf"), 1.5, True, None], "c": {"d": (-float("inf"), "é")}})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5, True, None], "c": {"d": [None, "é"]}}


def test_a_table_without_a_terminal_is_aligned_text(capsys):
    print_table(["name", "n"], [["a", 1], ["long one", 22]])
    assert capsys.readouterr().out == "name      n\na         1\nlong one  22\n"


def test_a_table_may_lack_headings_or_rows(capsys):
    print_table([], [["a", 1]])
    print_table(["a", "b"], [])
    print_table([], [])
    assert capsys.readouterr().out == "a  1\na  b\n"


def test_cells_cannot_steer_the_terminal(capsys):
    print_table(["x"], [["\x1b[2Jred\n"]])
    assert capsys.readouterr().out == "x\n\ufffd[2Jred\ufffd\n"


def test_a_terminal_gets_a_ruled_table_without_colour_if_asked(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    print_table(["name", "n"], [["[bold]a", 1]])
    shown = capsys.readouterr().out
    assert "[bold]a" in shown
    assert "──" in shown
    assert "\x1b[3" not in shown


def test_what_compiled_code_prints_goes_to_standard_error(capfd):
    with reserve_stdout(True):
        print("from python")
        os.write(1, b"from c\n")
    print_json({"a": 1})
    out, err = capfd.readouterr()
    assert json.loads(out) == {"a": 1}
    assert "from c\n" in err
    assert "from python\n" in err


def test_standard_output_comes_back_after_an_error(capfd):
    with pytest.raises(ValueError, match="x"), reserve_stdout(True):
        raise ValueError("x")
    os.write(1, b"back\n")
    assert capfd.readouterr().out == "back\n"


def test_without_json_nothing_is_redirected(capfd):
    with reserve_stdout(False):
        os.write(1, b"kept\n")
    assert capfd.readouterr().out == "kept\n"


def test_the_json_option_is_a_flag():
    @click.command()
    @json_option
    def command(as_json):
        click.echo(as_json)

    assert CliRunner().invoke(command, ["--json"]).stdout == "True\n"
    assert CliRunner().invoke(command, []).stdout == "False\n"


# printf writes to a buffer here, as standard output is a pipe; without a flush it would come at the very end.
PRINTS = """
import ctypes
import click
from tscnc_deploy.cli.common.output import json_option, print_json, reserve_stdout

libc = ctypes.CDLL(None)

@click.command()
@json_option
def command(as_json):
    libc.printf(b"before the command\\n")
    with reserve_stdout(as_json):
        libc.printf(b"from a library\\n")
    print_json({"a": 1})

command()
"""


def run_printing(*arguments):
    # With this variable, Python takes C's buffers away as well.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [sys.executable, "-c", PRINTS, *arguments],
        cwd=Path(__file__).parents[3],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )


def test_what_c_libraries_print_through_their_buffers_is_not_in_the_document():
    done = run_printing("--json")
    assert done.stderr == "from a library\n"
    before, _, document = done.stdout.partition("before the command\n")
    assert before == ""
    assert json.loads(document) == {"a": 1}


def test_without_json_nothing_is_moved():
    done = run_printing()
    assert done.stderr == ""
    assert "from a library\n" in done.stdout
