"""The options of `tscnc-deploy verify`, grouped by topic, and the request built from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tscnc_deploy.cli.common.options import Command, add_options, complete_dataset, complete_recipe
from tscnc_deploy.cli.common.reading_options import reading_options
from tscnc_deploy.names import DATASETS, MEASURES, NORMS
from tscnc_deploy.text import any_of

if TYPE_CHECKING:
    from tscnc_deploy.verify import VerifyRequest

_FILE = click.Path(path_type=Path, dir_okay=False)


class ArtifactType(click.Path):
    """A path, or a URL as a string, because a path would lose the second slash of http://."""

    name = "artifact"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        from tscnc_deploy.engines.remote.endpoint import is_url

        if isinstance(value, str) and is_url(value):
            return value
        return super().convert(value, parameter, context)


_DATA = (
    click.option(
        "--recipe",
        metavar="NAME|FILE",
        shell_complete=complete_recipe,
        help="For a file: the recipe for images, epsilon, attacks and gates, and for the network of plain weights.  "
        "[default: the recipe of --dataset, without its gates]",
    ),
    click.option(
        "--dataset",
        metavar="NAME",
        shell_complete=complete_dataset,
        help=f"Data set: {any_of(DATASETS)}. For a bundle: test images to use "
        "instead of its evidence, or the source of its evidence images if it does not contain them.",
    ),
    click.option("--data-root", metavar="DIR", type=click.Path(), help="Folder of the images, or an .npz file."),
    click.option("--norm", type=click.Choice(NORMS), help="Norm of the perturbation.  [default: the recipe's]"),
    click.option(
        "--epsilon",
        metavar="RADIUS",
        help="Radius of the perturbation for pixels in [0, 1], such as 8/255 or 0.1.  [default: the recipe's]",
    ),
    click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        help="Change a key of the recipe, such as --set gates.robust=0.4 or --set model.width=0.5.",
    ),
)

_FILES = (
    click.option(
        "--mean", metavar="NUMBERS", help="For a file: mean for normalising its input, such as 0.49,0.48,0.45."
    ),
    click.option("--std", metavar="NUMBERS", help="For a file: standard deviation, such as 0.25,0.24,0.26."),
    click.option(
        "--labels",
        metavar="NAMES|FILE",
        help="For a file: the class of each logit: class names separated by commas, or a .txt or .json file.",
    ),
    click.option(
        "--twin",
        type=_FILE,
        metavar="FILE",
        help="For an ONNX file: weights of the PyTorch model that it was exported from, as the source of gradients.  "
        "[default: the file's own graph]",
    ),
)

_REMOTE = (
    click.option(
        "--bundle",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="For a URL: the bundle that is served there. It provides images, examples, recipe and twin, and the "
        "server's logits are compared with it.",
    ),
    click.option(
        "--rate",
        type=click.FloatRange(min=0, min_open=True),
        metavar="N",
        help="For a URL: maximum number of images per second.",
    ),
    click.option(
        "--max-queries",
        type=click.IntRange(min=1),
        metavar="N",
        help="For a URL: maximum number of images to send; exceeding it is an error, but finished results are kept.",
    ),
)

_EFFORT = (
    click.option(
        "--budget",
        metavar="TIME|QUERIES",
        help="Time or number of queries for each engine, such as 90s, 10m or 50000q; the first images always finish.",
    ),
    click.option(
        "--until-decided",
        is_flag=True,
        help="End as soon as all gates are decided at 95%, by a sequential test that accounts for repeated looks.",
    ),
    click.option(
        "--workers", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="Number of processes."
    ),
    click.option(
        "--backend",
        type=click.Choice(["loky", "ray"]),
        default="loky",
        show_default=True,
        help="Where the processes run: on this machine, or on a Ray cluster.",
    ),
    click.option(
        "--store",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Folder for results of finished images, to resume interrupted evaluations.  [default: in the user's "
        "cache, until all are finished]",
    ),
    click.option(
        "--eot",
        type=click.IntRange(min=1, max=10_000),
        metavar="N",
        help="For a randomised model: attack the mean of N calls.",
    ),
    click.option(
        "--masking/--no-masking",
        default=None,
        help="Check for signs of gradient masking, on at most 128 images.  [default: unless --budget is given]",
    ),
    click.option(
        "--measure",
        "measures",
        multiple=True,
        metavar="NAME",
        help=f"Additional measure: {any_of(MEASURES)}; may be given multiple times.",
    ),
)

_OUTPUT = (
    click.option(
        "--per-image",
        type=_FILE,
        metavar="FILE",
        help="Write the outcomes of each image to a .csv or .parquet file.",
    ),
    click.option(
        "--save-examples",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Folder for adversarial examples, as .npz and as a picture, per engine.",
    ),
)


def read_request(artifact: Path | str, options: dict[str, Any]) -> VerifyRequest:
    """Builds the request from the argument and the options.

    Args:
        artifact: The argument, as converted by `ArtifactType`.
        options: Values by the field names of `VerifyRequest`; numbers that may be quotients or have units are strings.

    Raises:
        InputError: A value is not a number, or the labels file cannot be read.
    """
    from tscnc_deploy.verify import VerifyRequest, parse_budget, parse_epsilon, parse_values, read_names
    from tscnc_deploy.verify.values import parse_size

    read = {
        "mean": lambda text: parse_values(text, "--mean"),
        "std": lambda text: parse_values(text, "--std"),
        "epsilon": parse_epsilon,
        "budget": parse_budget,
        "labels": read_names,
        "input_size": parse_size,
    }
    values: dict[str, Any] = {
        name: read[name](value) if name in read and value is not None else value for name, value in options.items()
    }
    return VerifyRequest(artifact, **values)


def data_options(command: Command) -> Command:
    """Adds the options for the images and the threat model."""
    return add_options(_DATA, command)


def file_options(command: Command) -> Command:
    """Adds the options for a third-party file."""
    return reading_options(add_options(_FILES, command))


def remote_options(command: Command) -> Command:
    """Adds the options for a live server and its load."""
    return add_options(_REMOTE, command)


def effort_options(command: Command) -> Command:
    """Adds the options that limit and distribute the work."""
    return add_options(_EFFORT, command)


def output_options(command: Command) -> Command:
    """Adds the options for additional output files."""
    return add_options(_OUTPUT, command)
