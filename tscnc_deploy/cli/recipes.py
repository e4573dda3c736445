"""`tscnc-deploy recipes`."""

from __future__ import annotations

import click

from tscnc_deploy.cli.common.output import json_option, print_json, print_table


@click.command()
@json_option
def recipes(as_json: bool) -> None:
    """List the built-in recipes.

    Use a name with `tscnc-deploy build --recipe`, or with `tscnc-deploy init --recipe` to start your own recipe.
    """
    from tscnc_deploy.recipe.file import list_recipes

    listed = list_recipes()
    if as_json:
        print_json({"recipes": [{"name": r.name, "description": r.description, "file": str(r.path)} for r in listed]})
    else:
        print_table(["recipe", "description"], [[r.name, r.description] for r in listed])
