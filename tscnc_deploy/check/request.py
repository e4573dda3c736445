"""What a caller asks `check_bundle` to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.bundle.signing.keyless import Identity
    from tscnc_deploy.verify.budget import Budget


@dataclass(frozen=True)
class CheckRequest:
    """Which bundle to check, and how.

    Attributes:
        bundle: Folder of the bundle.
        key: Public key (PEM file) whose owner must have signed the bundle.
        identity: Identity that must have signed it without a key. If both are None, unsigned bundles are accepted.
        recipe: Name or file of the recipe that sets the limits.
        overrides: Changes to it, KEY=VALUE.
        baseline: Folder of a bundle that this one must not be worse than.
        margin: Largest share of robust accuracy that may be lost against the baseline, in [0, 1).
        engines: Names of the engines to run; empty runs every engine that this machine supports.
        attacks: Names of the fresh attacks; empty uses `attack.ATTACKS`.
        budget: What all fresh attacks together may cost; None is unlimited.
        seed: Seed of the attacks and of the images that are drawn.
        device: Device that PyTorch uses, "cpu" or "cuda".
        dataset: Name of the data set whose test images are attacked, and from which withheld evidence images are
            taken; None uses the recipe's.
        data_root: Folder of that data set; None uses the default. If both are None, no data set is opened, and the
            bundle's or the baseline's evidence images are attacked.
        samples: Number of images to draw from the data set; None draws `images.DRAWN_IMAGES`, or all if there are
            fewer.
        rebuild: Builds the bundle again from its recipe, to compare the two; None skips the comparison.
    """

    bundle: Path
    key: Path | None = None
    identity: Identity | None = None
    recipe: str | None = None
    overrides: tuple[str, ...] = ()
    baseline: Path | None = None
    margin: float = 0.02
    engines: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    budget: Budget | None = None
    seed: int = 0
    device: str = "cpu"
    dataset: str | None = None
    data_root: str | None = None
    samples: int | None = None
    rebuild: Callable[[Bundle], Bundle] | None = None

    @property
    def draws(self) -> bool:
        """Whether a data set is given, whose test images are attacked."""
        return self.dataset is not None or self.data_root is not None
