"""`tscnc-deploy init`."""

from __future__ import annotations

from pathlib import Path

import click

from tscnc_deploy.cli.common.options import complete_recipe


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default="recipe.toml")
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    default="digits",
    show_default=True,
    shell_complete=complete_recipe,
    help="Recipe to start from, see `tscnc-deploy recipes`.",
)
@click.option("--force", is_flag=True, help="Overwrite the file if it exists.  [default: refuse]")
def init(file: Path, recipe: str, force: bool) -> None:
    """Write a recipe to edit.

    FILE, by default recipe.toml, will contain every key with its description and default.
    """
    from tscnc_deploy.errors import InputError, StorageError
    from tscnc_deploy.files import write_atomic
    from tscnc_deploy.recipe.file import load_recipe, recipe_name, to_toml

    try:
        is_folder, is_there = file.is_dir(), file.exists()
    except OSError as error:
        msg = f"{file}: cannot be written: {error.strerror}"
        raise StorageError(msg) from error
    if is_folder:
        msg = f"{file} is a folder; give a file in it, such as {file / 'recipe.toml'}"
        raise InputError(msg)
    if file.suffix != ".toml":
        msg = f"{file} does not end in .toml, which distinguishes files from names of recipes; write {file}.toml"
        raise InputError(msg)
    if is_there and not force:
        msg = f"{file} exists; give another file, or overwrite it with --force"
        raise InputError(msg)
    write_atomic(file, to_toml(load_recipe(recipe).model_copy(update={"name": recipe_name(file)})))
    click.echo(f"wrote {file}; edit it, then run: tscnc-deploy build --recipe {file}")
