"""Lines of progress: what is never cut, and that they do not fall silent."""

from __future__ import annotations

import pytest

from tscnc_deploy.cli.common import progress
from tscnc_deploy.cli.common.progress import PlainProgress, bar_line, build_progress, show_figures, show_seconds

FIGURES = ("loss 0.181", "clean 98.6%", "robust 88.2%", "sparsity 0.0%", "kappa 6.13", "learning rate 0.1")


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (60, "[1/7] train ━━━╌╌╌  42% 3 min 05 s left  loss 0.181"),
        (80, "[1/7] train ━━━━━╌╌╌╌╌╌╌  42% 3 min 05 s left  loss 0.181  clean 98.6%"),
        (
            100,
            "[1/7] train ━━━━━╌╌╌╌╌╌╌  42% 3 min 05 s left  loss 0.181  clean 98.6%  robust 88.2%  sparsity 0.0%",
        ),
        (
            120,
            "[1/7] train ━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌  42% 3 min 05 s left  loss 0.181  clean 98.6%  robust 88.2%  "
            "sparsity 0.0%",
        ),
    ],
)
def test_figures_are_left_out_from_the_right(width, line):
    assert bar_line("[1/7] train", 0.42, "3 min 05 s left", ("", *FIGURES), width) == line
    assert len(line) <= width


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 120])
@pytest.mark.parametrize("share", [0.0, 0.999, 1.0])
def test_percent_and_time_left_are_never_cut(width, share):
    line = bar_line("[6/7] reverify tensorrt-int8-2to4", share, "12 h 07 min left", FIGURES, width)
    assert len(line) <= width
    assert f" {int(100 * share):3}% 12 h 07 min left" in line


def test_a_long_name_is_shortened_and_ascii_suffices():
    line = bar_line("[6/7] reverify tensorrt-int8", 0.5, "9 s left", (), 40, plain=True)
    assert line == "[6/7] reverify ten~ ###---  50% 9 s left"


def test_figures_and_times_in_words():
    assert show_figures({"loss": 0.41234, "robust": 0.88}) == ("loss 0.412", "robust 88.0%")
    assert [show_seconds(each) for each in (4.21, 185, 7620)] == ["4.2 s", "3 min 05 s", "2 h 07 min"]


class Clock:
    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


def test_plain_lines_every_ten_seconds_with_the_time_left(monkeypatch, capsys):
    clock = Clock(monkeypatch)
    plain = PlainProgress()
    plain.start("verify", 4, 7)
    for done in range(0, 60, 5):
        plain.step(done, 100, {}, "twin", "pgd-20")
        clock.now += 4
    assert capsys.readouterr().err.splitlines() == [
        "[4/7] verify twin 0/100  pgd-20  0 s so far",
        "[4/7] verify twin 15/100  pgd-20  68 s left",
        "[4/7] verify twin 30/100  pgd-20  56 s left",
        "[4/7] verify twin 45/100  pgd-20  44 s left",
    ]


def test_work_without_steps_does_not_look_as_if_it_hung(monkeypatch, capsys):
    clock = Clock(monkeypatch)
    plain = PlainProgress()
    plain.remind()
    plain.start("export", 5, 7)
    clock.now += 50
    plain.remind()
    assert capsys.readouterr().err == ""
    clock.now += 40
    plain.remind()
    clock.now += 10
    plain.remind()
    assert capsys.readouterr().err == "[5/7] export  at work, 90.0 s so far\n"
    plain.finish("export", cached=False, seconds=100)
    clock.now += 100
    plain.remind()
    assert capsys.readouterr().err == "[5/7] export: done in 1 min 40 s\n"


def test_a_terminal_gets_whole_lines(monkeypatch, capsys):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    with build_progress() as shown:
        shown.start("train", 1, 7)
        shown.step(0, 100, {"loss": 0.2, "clean": 0.5, "robust": 0.25})
        shown.step(42, 100, {"loss": 0.2, "clean": 0.5, "robust": 0.25}, detail="pgd")
    assert "42%" in capsys.readouterr().err
