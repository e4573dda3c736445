"""`tscnc-deploy inspect`: shows what a bundle contains, after checking every file."""

from __future__ import annotations

from pathlib import Path

import click

from tscnc_deploy.cli.common.bundles import bundle_argument
from tscnc_deploy.cli.common.output import json_option, print_json, print_table
from tscnc_deploy.text import number


def _print_schema(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from tscnc_deploy.record.schema import schema_text

        click.echo(schema_text(), nl=False)
        context.exit()


@click.command()
@bundle_argument
@json_option
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_schema,
    help="Print the JSON Schema of evidence/evidence.json, the record of a build, and exit; needs no BUNDLE.",
)
def inspect(bundle: Path, as_json: bool) -> None:
    """Show what a bundle contains.

    Checks every file against the manifest first; exit status 2 if a file is missing, changed or not listed, or if
    manifest and record disagree about the threat model.
    """
    from tscnc_deploy.bundle.opening import open_given
    from tscnc_deploy.check.claims import claims_of
    from tscnc_deploy.check.figures import contradictions

    opened = open_given(bundle)
    manifest, record, threat = opened.manifest, opened.record, opened.threat
    wrong, claims = contradictions(opened), claims_of(opened)
    if as_json:
        facts = {"bundle": str(opened.path), "manifest": manifest.model_dump(mode="json", by_alias=True)}
        facts |= {"as_its_maker_says": claims, "contradictions": wrong}
        print_json(facts | record.to_json())
        return
    model = manifest.model
    click.echo(f"{manifest.name}: {'passed its gates' if manifest.passed else 'FAILED its gates'}")
    click.echo(
        f"{model.arch}, {len(model.classes)} classes, input {list(model.input_shape)}; {model.nonzero:,} of "
        f"{model.prunable:,} weights nonzero ({model.sparsity:.2%} zeros); {threat.norm} epsilon "
        f"{threat.epsilon:g}"
    )
    if model.multiply_add_sparsity is not None:
        click.echo(
            f"{model.multiply_adds_left:,} of {model.multiply_adds:,} MACs per image remain "
            f"({model.multiply_add_sparsity:.2%} saved)"
        )
    print_table(
        ("gate", "value", "limit", ""),
        [
            (gate.name, _figure(gate.value), _figure(gate.limit), "passed" if gate.passed else "FAILED")
            for gate in record.gates
        ],
    )
    for contradiction in wrong:
        click.echo(f"FALSE: {contradiction}")
    click.echo(
        f"The values are as the bundle's maker says{', and some are false' if wrong else ''}; `tscnc-deploy check` "
        "measures them again."
    )
    click.echo(f"Only as its maker says, after a check too: {claims}.")
    print_table(
        ("file", "bytes", "SHA-256"),
        [(path, f"{entry.bytes:,}", entry.sha256[:16]) for path, entry in sorted(manifest.files.items())],
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else number(value)
