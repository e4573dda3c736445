from __future__ import annotations

import json
import os
import sys

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
