"""Size limits of a record, and the check before training that the record of a build will fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tscnc_deploy import strict_json
from tscnc_deploy.errors import InputError
from tscnc_deploy.record.build import MAX_EPOCHS, MAX_LAYERS, BuildRecord, Epoch, Layer
from tscnc_deploy.record.evaluations import MAX_ATTACKS, MAX_ENGINES
from tscnc_deploy.record.facts import MAX_CLASSES, ModelFacts, ThreatModel
from tscnc_deploy.record.parts import MAX_TEXT
from tscnc_deploy.text import quoted

# Bounds on the time and memory that opening a bundle can take. An epoch of 54 layers takes about 3,500 bytes and 70
# items, so about 3,600 epochs fit.
MAX_RECORD_BYTES, MAX_RECORD_ITEMS = 16 << 20, 1 << 19
MAX_MANIFEST_BYTES, MAX_MANIFEST_ITEMS = 8 << 20, 1 << 20

# Reserved for evaluations, gates, sizes and the environment, and for an engine's entry for a layer.
_RESERVED_BYTES, _RESERVED_ITEMS = 2 << 20, 1 << 16
_LAYER_BYTES, _LAYER_ITEMS = 1000, 20
# The longest representation of a float.
_LONGEST = -1.7976931348623157e308


def check_classes(classes: Sequence[str]) -> None:
    """Refuses classes that do not fit into a record or a manifest.

    Raises:
        InputError: There are too many, or a name is too long; the message gives the limit.
    """
    if len(classes) > MAX_CLASSES:
        msg = f"the data set has {len(classes)} classes; a bundle can have at most {MAX_CLASSES}"
        raise InputError(msg)
    if long := [name for name in classes if len(name) > MAX_TEXT]:
        msg = (
            f"the data set's class {quoted(long[0])} has a name of {len(long[0])} characters; at most {MAX_TEXT} "
            "are allowed: shorten it (for an image folder, rename the class's folder)"
        )
        raise InputError(msg)
    # The other half is reserved for files and engines.
    if (length := len(strict_json.dumps(list(classes)))) > MAX_MANIFEST_BYTES // 2:
        msg = (
            f"the names of the data set's {len(classes)} classes take {length} bytes; at most "
            f"{MAX_MANIFEST_BYTES // 2} are allowed: shorten them"
        )
        raise InputError(msg)


def check_size(
    *,
    name: str,
    recipe: Mapping[str, Any],
    threat: ThreatModel,
    model: ModelFacts,
    layers: Sequence[str],
    epochs: int,
    engines: int,
    attacks: int,
) -> None:
    """Refuses a build whose record would exceed the limits.

    Args:
        name: Name of the bundle.
        recipe: The recipe as it will be in the record.
        threat: The threat model.
        model: The network, with its classes.
        layers: Names of its prunable weights.
        epochs: Number of epochs of all stages together.
        engines: Number of targets.
        attacks: Maximum number of attacks on one model or engine.

    Raises:
        InputError: There are too many layers, epochs, targets or attacks, or the record would be too long; the
            message says how many epochs fit.
    """
    if len(layers) > MAX_LAYERS:
        msg = f"the network has {len(layers)} prunable layers; at most {MAX_LAYERS} are allowed"
        raise InputError(msg)
    for what, count, bound in (("export.targets", engines, MAX_ENGINES), ("attacks", attacks, MAX_ATTACKS)):
        if count > bound:
            msg = f"{what}: there are {count}; at most {bound} are allowed"
            raise InputError(msg)
    if long := [layer for layer in layers if len(layer) > MAX_TEXT]:
        msg = f"the weight {quoted(long[0])} has a name of {len(long[0])} characters; at most {MAX_TEXT} are allowed"
        raise InputError(msg)
    draft = BuildRecord(
        name=name,
        recipe=dict(recipe),
        threat=threat,
        model=model,
        layers=tuple(Layer(name=layer) for layer in layers),
        passed=False,
    )
    alone, whole = draft.to_bytes(), draft.model_copy(update={"history": (_epoch(layers),)}).to_bytes()
    rows = (1 + engines) * len(layers)
    room = (
        MAX_RECORD_BYTES - len(alone) - _RESERVED_BYTES - rows * _LAYER_BYTES,
        MAX_RECORD_ITEMS - strict_json.count_items(alone) - _RESERVED_ITEMS - rows * _LAYER_ITEMS,
    )
    each = len(whole) - len(alone), strict_json.count_items(whole) - strict_json.count_items(alone)
    most = max(min(MAX_EPOCHS, *(left // cost for left, cost in zip(room, each, strict=True))), 0)
    if epochs > most:
        msg = (
            f"train.epochs, prune.epochs and finetune.epochs add up to {epochs}; a bundle's record can hold at most "
            f"{most} epochs of a network with {len(layers)} prunable layers: lower them"
        )
        raise InputError(msg)


def _epoch(layers: Sequence[str]) -> Epoch:
    """An epoch entry of the largest possible size."""
    figures = dict.fromkeys(("loss", "clean", "robust", "sparsity", "lr", "weight", "seconds"), _LONGEST)
    return Epoch(stage="finetune", epoch=MAX_EPOCHS, kappa=dict.fromkeys(layers, _LONGEST), **figures)
