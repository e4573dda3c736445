"""`tscnc-deploy targets`."""

from __future__ import annotations

import click

from tscnc_deploy.cli.common.output import json_option, print_json, print_table


@click.command()
@json_option
def targets(as_json: bool) -> None:
    """List the built-in targets.

    Each is an engine that `tscnc-deploy build --target` can export. `tscnc-deploy doctor` shows which of them this
    machine can also run and attack.
    """
    from tscnc_deploy.engines.target import list_targets

    listed = list_targets()
    if as_json:
        print_json({"targets": [target.model_dump(mode="json") for target in listed]})
    else:
        columns = ["target", "engine", "precision", "batch", "tolerance", "description"]
        print_table(
            columns,
            [
                [t.name, t.engine, t.precision, f"{t.batch_min}-{t.batch_max}", f"{t.tolerance:g}", t.description]
                for t in listed
            ],
        )
