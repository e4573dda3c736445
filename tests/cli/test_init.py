from __future__ import annotations

import pytest
from click.testing import CliRunner

from tscnc_deploy.cli import main
from tscnc_deploy.recipe.file import load_recipe


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(*arguments):
    return CliRunner().invoke(main, ["init", "--recipe", "cifar10", *arguments])


def test_a_commented_recipe_is_written_that_builds_the_same(folder):
    done = init("cats.toml")
    assert (done.exit_code, done.stdout) == (
        0,
        "wrote cats.toml; edit it, then run: tscnc-deploy build --recipe cats.toml\n",
    )
    assert "# share of zeros among all conv and linear weights" in (folder / "cats.toml").read_text()
    assert load_recipe("cats.toml") == load_recipe("cifar10").model_copy(update={"name": "cats"})
    assert [path.name for path in folder.iterdir()] == ["cats.toml"]


def test_the_file_is_recipe_toml_unless_named(folder):
    assert init().exit_code == 0
    assert (folder / "recipe.toml").is_file()


def test_a_file_is_overwritten_only_by_force(folder):
    (folder / "mine.toml").write_text("precious")
    done = init("mine.toml")
    assert (done.exit_code, done.stderr) == (
        2,
        "error: mine.toml exists; give another file, or overwrite it with --force\n",
    )
    assert (folder / "mine.toml").read_text() == "precious"
    assert init("mine.toml", "--force").exit_code == 0
    assert load_recipe("mine.toml").data.dataset == "cifar10"


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (".", "error: . is a folder; give a file in it, such as recipe.toml\n"),
        (
            "mine",
            "error: mine does not end in .toml, which distinguishes files from names of recipes; write mine.toml\n",
        ),
        (f"{'x' * 300}.toml", f"error: {'x' * 300}.toml: cannot be written: File name too long\n"),
        ("no/mine.toml", "error: no/mine.toml: cannot be written: No such file or directory\n"),
    ],
)
def test_a_place_that_cannot_hold_the_file_is_refused(file, said):
    done = init(file)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", said)


def test_an_unknown_recipe_gets_a_suggestion(folder):
    done = init("x.toml", "--recipe", "cifar01")
    assert done.exit_code == 2
    assert done.stderr.endswith("; did you mean cifar10?\n")
    assert list(folder.iterdir()) == []
