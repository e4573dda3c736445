"""A PyTorch model: a file of this package, or third-party weights for one of its architectures."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tscnc_deploy.arch import parse_arch
from tscnc_deploy.digests import digest_of_file, digest_of_parts
from tscnc_deploy.errors import InputError
from tscnc_deploy.verify.sources.base import IOSpec, ready
from tscnc_deploy.verify.values import check_normalization

if TYPE_CHECKING:
    from tscnc_deploy.data import Dataset
    from tscnc_deploy.models import Classifier, ModelConfig
    from tscnc_deploy.recipe import Recipe
    from tscnc_deploy.robustness import ModelVictim


@dataclass(frozen=True)
class CheckpointSource:
    """See `Source`; `checkpoint_source` fills in what the file does not specify.

    Attributes:
        path: A .safetensors file of this package; or, with a config, any file that `models.load_weights` accepts.
        config: Configuration of the model; None if the file contains it.
        order: For each class of the data set, the index of its logit, see `order_of`; None keeps the order.
        key: Which of several networks in the file, see `models.load_weights`; only with a config.
        fixed: Whether the config's normalisation was stated, so that a file with another one is refused.
        arch: Name of the network, needed where it is not built in, because what a file names is never imported.
    """

    path: Path
    config: ModelConfig | None = None
    order: tuple[int, ...] | None = None
    key: str | None = None
    fixed: bool = False
    arch: str | None = None

    @property
    def name(self) -> str:
        """See `Source.name`."""
        return self.path.stem

    def form(self) -> IOSpec:
        """See `Source.form`."""
        config = self.config or self._load().config
        return IOSpec(config.input_shape, config.classes if self.order is None else len(self.order))

    def open(self, device: str) -> ModelVictim:
        """See `Source.open`."""
        from tscnc_deploy.robustness import ModelVictim
        from tscnc_deploy.verify.sources.selection import Selection

        model = self._load()
        if self.order is None:
            return ModelVictim(ready(model, device))
        if not set(self.order) <= set(range(model.config.classes)):
            msg = f"{self.path}: has {model.config.classes} logits, but --labels names logit {max(self.order)}"
            raise InputError(msg)
        return ModelVictim(ready(Selection(model, self.order), device))

    def digest(self) -> str:
        """See `Source.digest`."""
        config = dataclasses.asdict(self.config) if self.config else None
        network = self.config.network if self.config else parse_arch(self.arch) if self.arch else None
        code = None
        if network is not None and network.own:
            from tscnc_deploy.models.own import code_digest

            code = code_digest(network)["sha256"]
        return digest_of_parts(
            kind="checkpoint", file=digest_of_file(self.path), config=config, order=self.order, key=self.key, code=code
        )

    def _load(self) -> Classifier:
        from tscnc_deploy.models import build, load_model, load_weights

        if self.config is None:
            return load_model(self.path, arch=self.arch)
        model = build(**dataclasses.asdict(self.config))
        load_weights(model, self.path, self.key)
        found, stated = model.config, self.config
        pairs = zip((*found.mean, *found.std), (*stated.mean, *stated.std), strict=True)
        # A file has the rounded values of float32.
        if self.fixed and not all(math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-7) for one, other in pairs):
            msg = (
                f"{self.path}: contains its normalisation, mean {list(found.mean)} and std {list(found.std)}, but "
                f"{list(stated.mean)} and {list(stated.std)} were given; leave out --mean and --std"
            )
            raise InputError(msg)
        return model


def checkpoint_source(
    path: Path,
    recipe: Recipe,
    dataset: Dataset,
    *,
    outputs: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    order: tuple[int, ...] | None = None,
) -> CheckpointSource:
    """The source for a file that may or may not contain its model's configuration.

    Args:
        path: The file; if it contains the configuration, the following are not needed.
        recipe: Gives the network, and which of several networks in the file.
        dataset: Gives the size of the images, the classes, and the normalisation that the train stage would use.
        outputs: Number of logits; by default the number of the data set's classes.
        mean: Per channel, or one for all, for pixels in [0, 1]; by default that of the training images.
        std: Likewise; given if and only if mean is.
        order: See `CheckpointSource`.

    Raises:
        InputError: A safetensors file is unreadable; a normalisation is given for a file that has one, or has another
            number of channels; mean without std, or std without mean.
    """
    from tscnc_deploy.models import ModelConfig

    check_normalization(mean, std)
    if has_config(path):
        if mean is not None:
            msg = f"{path}: contains its normalisation; leave out --mean and --std"
            raise InputError(msg)
        given = None if parse_arch(recipe.model.arch).source == "builtin" else recipe.model.arch
        return CheckpointSource(path, order=order, arch=given)
    stated = mean is not None
    if mean is None or std is None:
        mean, std = dataset.channel_statistics()
    channels = dataset.input_shape[0]
    mean, std = (values * channels if len(values) == 1 else values for values in (mean, std))
    classes = outputs or len(dataset.classes)
    model = recipe.model
    return CheckpointSource(
        path,
        ModelConfig(model.arch, model.width, classes, dataset.input_shape, mean, std, model.args),
        order=order,
        key=model.checkpoint_key,
        fixed=stated,
    )


def has_config(path: Path) -> bool:
    """Whether a file contains its model's configuration.

    Raises:
        InputError: A safetensors file is unreadable.
    """
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors":
        return False
    try:
        with safe_open(path, framework="numpy") as file:
            return "config" in (file.metadata() or {})
    except (SafetensorError, OSError) as error:
        msg = f"{path}: is not a readable safetensors file: {error}"
        raise InputError(msg) from error
