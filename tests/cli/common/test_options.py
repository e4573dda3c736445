from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from tscnc_deploy.cli.common.options import device_option, recipe_from_options, recipe_options
from tscnc_deploy.cli.common.program import Program
from tscnc_deploy.names import ARCHITECTURES, DATASETS


@click.group(cls=Program)
def program():
    pass


@click.command()
@recipe_options
@device_option
def show(device, **options):
    recipe = recipe_from_options(**options)
    click.echo(f"{recipe.name} {recipe.model.arch} {recipe.prune.sparsity} {recipe.data.dataset} {recipe.data.root}")
    click.echo(f"{' '.join(recipe.export.targets)} {recipe.seed} {recipe.train.epochs} {device}")


program.add_command(show)
program.list_commands = lambda ctx: ["show"]
program.get_command = lambda ctx, name: show


def invoke(*arguments):
    return CliRunner().invoke(program, ["show", *arguments])


def test_options_reach_the_recipe():
    done = invoke(
        "--recipe", "cifar10", "--arch", "vgg16", "--sparsity", "0.9", "--dataset", "svhn", "--data-root", "d",
        "--target", "onnx-cuda", "--target", "onnx-cpu", "--seed", "5", "--set", "train.epochs=3", "--device", "cpu",
    )  # fmt: skip
    assert done.stdout == "cifar10 vgg16 0.9 svhn d\nonnx-cuda onnx-cpu 5 3 cpu\n"
    assert (done.exit_code, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["--dataset", "cifar10"], "cifar10 resnet18 0.95 cifar10 data"),
        (["--dataset", "svhn"], "images resnet18 0.95 svhn data"),
        (["--set", "data.dataset=svhn"], "images resnet18 0.95 svhn data"),
    ],
)
def test_the_recipe_follows_the_data_set(arguments, name):
    assert invoke(*arguments).stdout.splitlines()[0] == name


def test_a_file_of_the_users_own(tmp_path):
    (tmp_path / "cats.toml").write_text("[prune]\nsparsity = 0.5")
    assert invoke("--recipe", str(tmp_path / "cats.toml")).stdout.splitlines()[0] == "cats resnet18 0.5 digits data"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sparsity", "95"], "error: --sparsity 95 is not a share from 0 up to but not including 1; write 0.95 "),
        (["--sparsity", "-0.1"], "error: --sparsity -0.1 is not a share from 0 up to but not including 1; "),
        (["--sparsity", "nan"], "error: --sparsity nan is not a share"),
        (["--sparsity", "1.0"], "error: --sparsity 1 is not a share"),
        (["--arch", "resnet81"], "error: --arch resnet81 is not resnet18, "),
        (["--set", "prune.sparcity=1"], "error: --set prune.sparcity=1: prune.sparcity is not a key of a recipe; "),
        (["--recipe", "nowhere.toml"], "error: nowhere.toml: file not found; "),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_2(arguments, said):
    done = invoke("--dataset", "cifar10", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


def test_the_help_names_every_architecture_and_data_set():
    words = " ".join(invoke("--help").stdout.split()).replace("- ", "-")
    assert all(name in words for name in (*ARCHITECTURES, *DATASETS))
