"""`tscnc-deploy export`: writes a bundle's engine for Triton or KServe."""

from __future__ import annotations

from pathlib import Path

import click

from tscnc_deploy.cli.common.bundles import bundle_argument


@click.command()
@bundle_argument
@click.option(
    "--target",
    type=click.Choice(["triton", "kserve"]),
    required=True,
    help="What to write: a Triton repository or a KServe manifest.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="DIR", help="Folder to write to."
)
@click.option("--engine", metavar="TARGET", help="Engine to export.  [default: the first that was attacked]")
@click.option("--instances", type=click.IntRange(1, 64), default=1, show_default=True, help="Copies of the engine.")
@click.option(
    "--max-delay",
    type=click.FloatRange(0, 10_000),
    default=2.0,
    show_default=True,
    metavar="MILLISECONDS",
    help="Longest time that a request waits for others to join its batch.",
)
@click.option(
    "--storage-uri", metavar="URI", help="For kserve: where the repository will be, such as s3://models/digits."
)
@click.option("--allow-failed", is_flag=True, help="Export an engine that failed its gates or was never attacked.")
def export(
    bundle: Path,
    target: str,
    out: Path,
    engine: str | None,
    instances: int,
    max_delay: float,
    storage_uri: str | None,
    allow_failed: bool,
) -> None:
    """Write a bundle's engine for Triton or KServe.

    triton adds the model to the repository DIR (config.pbtxt, labels and the engine's file) for tritonserver
    --model-repository DIR. kserve writes an InferenceService, and the repository to be uploaded to --storage-uri. Only
    a bundle that passed its gates is exported.
    """
    from tscnc_deploy.bundle.opening import open_given
    from tscnc_deploy.errors import InputError
    from tscnc_deploy.serving.kserve import write_kserve
    from tscnc_deploy.serving.loading import choose_engines
    from tscnc_deploy.serving.triton import RELEASE, Options, write_triton

    if (target == "kserve") != (storage_uri is not None):
        msg = "--target kserve requires --storage-uri, and --target triton does not take it"
        raise InputError(msg)
    opened = open_given(bundle)
    name = choose_engines(opened, engine, allow_failed=allow_failed)[0]
    options = Options(instances=instances, max_delay=max_delay / 1000)
    if storage_uri is None:
        written = write_triton(opened, name, out, options)
        click.echo(f"{written}: engine {name} for Triton {RELEASE}; run: tritonserver --model-repository {out}")
    else:
        written = write_kserve(opened, name, out, options, storage_uri)
        click.echo(f"{written}: engine {name}; copy {out / 'repository'} to {storage_uri} before you apply it")
