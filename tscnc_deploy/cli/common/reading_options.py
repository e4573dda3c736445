"""Options for what cannot always be told from a third-party ONNX file; `verify` and `bench` share them."""

from __future__ import annotations

import click

from tscnc_deploy.cli.common.options import Command, add_options

_OPTIONS = (
    click.option("--layout", type=click.Choice(["nchw", "nhwc"]), help="For an ONNX file: order of its input's axes."),
    click.option(
        "--range",
        type=click.Choice([1, 255]),
        help="For an ONNX file: largest value of its pixels; --mean and --std are then in the same unit.",
    ),
    click.option("--channels", type=click.Choice(["rgb", "bgr"]), help="For an ONNX file: order of the colours."),
    click.option(
        "--input-size",
        metavar="SIDE|HEIGHTxWIDTH",
        help="For an ONNX file with free height and width: their size, such as 224 or 224x192.  [default: that of the "
        "data set's images]",
    ),
    click.option("--output", metavar="NAME", help="For an ONNX file with several outputs: the one with the logits."),
    click.option(
        "--allow-contrib-operators",
        is_flag=True,
        default=None,
        help="For an ONNX file: accept onnxruntime's own operators, as in optimised files.",
    ),
)


def reading_options(command: Command) -> Command:
    """Adds the options; their names are those of `VerifyRequest`."""
    return add_options(_OPTIONS, command)
