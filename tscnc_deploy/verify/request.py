"""What the user asks to verify, before anything is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tscnc_deploy.verify.budget import Budget
from tscnc_deploy.verify.labels import Names


@dataclass(frozen=True)
class VerifyRequest:
    """One call of `tscnc-deploy verify`. None or empty means the value of the recipe or bundle, or the default.

    Attributes:
        artifact: Folder of a bundle or run, an .onnx file, weights, or the URL of a served model (a string).
        engines: Names of a bundle's engines, or "twin"; empty takes all that run on this machine.
        attacks: Names of attacks and ensembles.
        samples: Number of images.
        seed: Seed of the attacks and of the choice of images.
        device: "auto", "cpu" or "cuda".
        recipe: Name or file of the recipe, for a file or a served model.
        overrides: Changes to the recipe, KEY=VALUE.
        dataset: Name of the data set of the images.
        data_root: Its folder or file.
        norm: Norm of the perturbation.
        epsilon: Radius of the perturbation for pixels in [0, 1].
        mean: Mean for normalising a file's input, per channel, or one for all.
        std: Standard deviation, likewise.
        labels: Class of each logit of a file.
        twin: Weights of the PyTorch model that an .onnx file was exported from.
        bundle: The bundle that is served at a URL.
        rate: Maximum number of images per second sent to a server.
        max_queries: Maximum number of images sent to a server.
        budget: Budget for each engine.
        until_decided: Whether to end as soon as all gates are decided.
        workers: Number of processes.
        backend: "loky" or "ray", where they run.
        store: Folder for the results of finished images.
        eot: Number of calls whose logits are averaged, for a randomised model.
        masking: Whether to check for signs of gradient masking; None does so unless there is a budget.
        measures: Names of additional measures, see `robustness.MEASURES`.
    """

    artifact: Path | str
    engines: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    samples: int | None = None
    seed: int = 0
    device: str = "auto"
    recipe: str | None = None
    overrides: tuple[str, ...] = ()
    dataset: str | None = None
    data_root: str | None = None
    norm: Literal["Linf", "L2"] | None = None
    epsilon: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    labels: Names | None = None
    twin: Path | None = None
    layout: Literal["nchw", "nhwc"] | None = None
    range: int | None = None
    channels: Literal["rgb", "bgr"] | None = None
    input_size: tuple[int, int] | None = None
    output: str | None = None
    allow_contrib_operators: bool | None = None
    bundle: Path | None = None
    rate: float | None = None
    max_queries: int | None = None
    budget: Budget | None = None
    until_decided: bool = False
    workers: int = 1
    backend: str = "loky"
    store: Path | None = None
    eot: int | None = None
    masking: bool | None = None
    measures: tuple[str, ...] = ()
