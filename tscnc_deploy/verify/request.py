"""What the user asks to be verified, before anything is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tscnc_deploy.verify.budget import Budget
from tscnc_deploy.verify.labels import Names


@dataclass(frozen=True)
class VerifyRequest:
    """One call of `tscnc-deploy verify`. None and empty leave a choice to the recipe, the bundle or the default.

    Attributes:
        artifact: A bundle's or a run's folder, an .onnx file, weights, or the address of a served model (a text).
        engines: Names of a bundle's engines, or "twin"; empty takes all that run here.
        attacks: Names of attacks and ensembles.
        samples: Number of images.
        seed: Of the attacks, and of which images are drawn.
        device: "auto", "cpu" or "cuda".
        recipe: Name or file of the recipe, for a file or a served model.
        overrides: Changes to the recipe, KEY=VALUE.
        dataset: Name of the data set that the images are from.
        data_root: Where it is.
        norm: Of the perturbation.
        epsilon: Its radius for pixels in [0, 1].
        mean: What the pixels of a file's input are normalised with, per channel, or one for all.
        std: Likewise.
        labels: What each logit of a file stands for.
        twin: Weights of the PyTorch model that an .onnx file was exported from.
        bundle: The bundle that is served at an address.
        rate: Most images per second that a server is sent.
        max_queries: Most images that a server is sent.
        budget: What each engine may cost.
        until_decided: Whether to end as soon as every gate is decided.
        workers: Number of processes.
        backend: "loky" or "ray", where they run.
        store: Folder for the results of finished images.
        eot: Calls whose logits are averaged, for a model that answers at random.
        masking: Whether to look for signs of gradient masking; None does so unless there is a budget.
        measures: Names of what is measured besides, see `robustness.MEASURES`.
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
