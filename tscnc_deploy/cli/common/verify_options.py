"""The many options of `tscnc-deploy verify`, by what they are about, and the request that they make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tscnc_deploy.cli.common.options import Command, add_options, complete_dataset, complete_recipe
from tscnc_deploy.names import DATASETS, MEASURES, NORMS
from tscnc_deploy.text import any_of

if TYPE_CHECKING:
    from tscnc_deploy.verify import VerifyRequest

_FILE = click.Path(path_type=Path, dir_okay=False)


class ArtifactType(click.Path):
    """A path, or an address as a text: a path would lose the second slash of http://."""

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
        help="For a file: the recipe that names images, epsilon, attacks and gates, and the network of bare weights.  "
        "[default: the one of --dataset, without its gates]",
    ),
    click.option(
        "--dataset",
        metavar="NAME",
        shell_complete=complete_dataset,
        help=f"Images: {any_of(DATASETS)}. With a bundle, attack it on "
        "these test images instead of its evidence; with one that holds none, where its evidence images are.",
    ),
    click.option("--data-root", metavar="DIR", type=click.Path(), help="Folder of the images, or the .npz file."),
    click.option("--norm", type=click.Choice(NORMS), help="Norm of the perturbation.  [default: the recipe's]"),
    click.option(
        "--epsilon",
        metavar="RADIUS",
        help="Its radius for pixels in [0, 1], such as 8/255 or 0.1.  [default: the recipe's]",
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
        "--mean", metavar="NUMBERS", help="For a file: what its input is normalised with, such as 0.49,0.48,0.45."
    ),
    click.option("--std", metavar="NUMBERS", help="For a file: likewise, such as 0.25,0.24,0.26."),
    click.option(
        "--labels",
        metavar="NAMES|FILE",
        help="For a file: what each of its logits stands for: names of classes separated by commas, or a .txt or .json "
        "file of them.",
    ),
    click.option(
        "--twin",
        type=_FILE,
        metavar="FILE",
        help="For an ONNX file: weights of the PyTorch model that it was exported from, for attacks with gradients.",
    ),
)

_REMOTE = (
    click.option(
        "--bundle",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="For a URL: the bundle that is served there. It brings images, examples, recipe and twin, and the "
        "server's logits are held against it.",
    ),
    click.option(
        "--rate",
        type=click.FloatRange(min=0, min_open=True),
        metavar="N",
        help="For a URL: most images per second.",
    ),
    click.option(
        "--max-queries",
        type=click.IntRange(min=1),
        metavar="N",
        help="For a URL: end with an error before more images than this are sent; what is finished is kept.",
    ),
)

_EFFORT = (
    click.option(
        "--budget",
        metavar="TIME|QUERIES",
        help="What each engine may cost, such as 90s, 10m or 50000q; its first images are finished in any case.",
    ),
    click.option(
        "--until-decided",
        is_flag=True,
        help="End as soon as every gate is decided at 95%, by a sequential test that allows for looking several times.",
    ),
    click.option(
        "--workers", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="Number of processes."
    ),
    click.option(
        "--backend",
        type=click.Choice(["loky", "ray"]),
        default="loky",
        show_default=True,
        help="Where they run: processes of this machine, or of a Ray cluster.",
    ),
    click.option(
        "--store",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Keep finished images' results here, for evaluations that may be killed.  [default: in the user's cache, "
        "until all are finished]",
    ),
    click.option(
        "--eot",
        type=click.IntRange(min=1, max=10_000),
        metavar="N",
        help="For a model that answers at random: attack the mean of N calls.",
    ),
    click.option(
        "--masking/--no-masking",
        default=None,
        help="Look for signs of gradient masking, on at most 128 images.  [default: unless --budget is given]",
    ),
    click.option(
        "--measure",
        "measures",
        multiple=True,
        metavar="NAME",
        help=f"Measure besides: {any_of(MEASURES)}; may be given several times.",
    ),
)

_OUTPUT = (
    click.option(
        "--per-image",
        type=_FILE,
        metavar="FILE",
        help="Write every image's outcomes to a .csv or .parquet file.",
    ),
    click.option(
        "--save-examples",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Save adversarial examples here, as .npz and as a picture, per engine.",
    ),
)


def read_request(artifact: Path | str, options: dict[str, Any]) -> VerifyRequest:
    """What the argument and the options ask for.

    Args:
        artifact: The argument, as `ArtifactType` gives it.
        options: Values by the names of `VerifyRequest`; numbers that may be quotients or have units are text.

    Raises:
        InputError: A value is not a number, or the file of the labels cannot be read.
    """
    from tscnc_deploy.verify import VerifyRequest, parse_budget, parse_epsilon, parse_values, read_names

    read = {
        "mean": lambda text: parse_values(text, "--mean"),
        "std": lambda text: parse_values(text, "--std"),
        "epsilon": parse_epsilon,
        "budget": parse_budget,
        "labels": read_names,
    }
    values: dict[str, Any] = {
        name: read[name](value) if name in read and value is not None else value for name, value in options.items()
    }
    return VerifyRequest(artifact, **values)


def data_options(command: Command) -> Command:
    """Adds what chooses the images and the threat model."""
    return add_options(_DATA, command)


def file_options(command: Command) -> Command:
    """Adds what describes a third-party file."""
    return add_options(_FILES, command)


def remote_options(command: Command) -> Command:
    """Adds what describes a live server, and spares it."""
    return add_options(_REMOTE, command)


def effort_options(command: Command) -> Command:
    """Adds what bounds and spreads the work."""
    return add_options(_EFFORT, command)


def output_options(command: Command) -> Command:
    """Adds what is written beside the result."""
    return add_options(_OUTPUT, command)
