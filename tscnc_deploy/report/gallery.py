"""Writes adversarial examples as a picture and as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tscnc_deploy.errors import InputError
from tscnc_deploy.files import open_atomic, write_atomic
from tscnc_deploy.report import svg
from tscnc_deploy.report.files import check_suffix
from tscnc_deploy.report.wording import figure

if TYPE_CHECKING:
    from torch import Tensor

    from tscnc_deploy.robustness import Threat

# In inches: side of an image, gap between images, text line above a row, header, and gap between columns of rows.
SIDE, GAP, LINE, HEAD, BETWEEN = 1.25, 0.07, 0.3, 0.85, 0.4
DPI = 128  # so that an image has 160 pixels a side, five for each of 32
_NAME = 16  # number of characters of a class name that fit above an image


def write_gallery(
    path: Path,
    images: Tensor,
    adversarial: Tensor,
    labels: Tensor,
    predictions: Tensor,
    adversarial_predictions: Tensor,
    classes: Sequence[str],
    threat: Threat,
    count: int = 16,
) -> None:
    """Draws examples in rows: the image, its adversarial example, and their difference, magnified.

    Images misclassified only under attack come first, then robust ones, then those that are misclassified without an
    attack. In the difference, grey is no change; white and black are changes of epsilon for an Linf threat, or of the
    image's largest change for an L2 threat. Pixels of small images are drawn as squares.

    Args:
        path: Ends in .png; written atomically.
        images: float32 [N, C, H, W] in [0, 1]; 3 channels are RGB, otherwise the mean over channels is drawn in grey.
        adversarial: Like `images`.
        labels: int64 [N].
        predictions: int64 [N], the predicted classes of the images.
        adversarial_predictions: int64 [N], the predicted classes of the examples.
        classes: Names of the classes in the order of the logits; a class without a name is shown by its number.
        threat: The threat model of the attacks.
        count: Maximum number of rows, at least 1.

    Raises:
        InputError: Another suffix, mismatched shapes, or no rows to draw.
        StorageError: The file cannot be written.
    """
    check_suffix(path, (".png",))
    _check(images, adversarial, labels, predictions, adversarial_predictions)
    if count < 1:
        msg = f"count = {count} is not a positive number of rows"
        raise InputError(msg)
    correct = predictions == labels
    misclassified = correct & (adversarial_predictions != labels)
    order = [
        row for part in (misclassified, correct & ~misclassified, ~correct) for row in part.nonzero().flatten().tolist()
    ][:count]

    groups = 1 if len(order) <= 4 else 2
    rows = -(-len(order) // groups)
    group_width = 3 * SIDE + 2 * GAP
    width, height = 2 * BETWEEN + groups * (group_width + BETWEEN) - BETWEEN, HEAD + rows * (SIDE + LINE) + GAP
    with svg.style():
        drawing = Figure(figsize=(width, height), dpi=DPI)
        drawing.set_layout_engine("none")
        left = BETWEEN / width
        drawing.text(left, 1 - 0.2 / height, _heading(misclassified, correct), fontsize=10, weight="bold", va="center")
        drawing.text(left, 1 - 0.42 / height, _legend(threat), fontsize=7.5, va="center", color="#4f5a63")
        for group in range(groups):
            start = BETWEEN + group * (group_width + BETWEEN)
            for column, heading in enumerate(("image", "adversarial", "difference")):
                middle = start + column * (SIDE + GAP) + SIDE / 2
                drawing.text(
                    middle / width, 1 - 0.68 / height, heading, fontsize=8, ha="center", va="center", color="#4f5a63"
                )
        for place, row in enumerate(order):
            start = BETWEEN + (place // rows) * (group_width + BETWEEN)
            bottom = height - HEAD - (place % rows + 1) * (SIDE + LINE) + GAP
            title = _title(classes, int(labels[row]), int(predictions[row]), int(adversarial_predictions[row]))
            drawing.text(start / width, (bottom + SIDE + 0.1) / height, title, fontsize=9, va="center")
            clean, changed = (part[row].detach().cpu().double().numpy() for part in (images, adversarial))
            shown = (clean, changed, magnified(changed - clean, threat))
            for column, pixels in enumerate(shown):
                box = ((start + column * (SIDE + GAP)) / width, bottom / height, SIDE / width, SIDE / height)
                _draw(drawing, box, pixels)
        # Drawn before the file is opened: a font that cannot be read is not an error of the file.
        content = BytesIO()
        drawing.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    write_atomic(path, content.getvalue())


def magnified(moves: NDArray[np.float64], threat: Threat) -> NDArray[np.float64]:
    """The change of one image as an image: 0.5 is no change, 0 and 1 are the largest possible changes.

    Args:
        moves: [C, H, W], the example minus the image.
        threat: For Linf the largest change is epsilon; for L2, where changes of single pixels are small, it is that of
            this image.
    """
    largest = threat.epsilon if threat.norm == "Linf" else float(np.abs(moves).max())
    scaled = moves / (2 * largest) if largest else moves
    return np.clip(0.5 + scaled, 0, 1)


def save_examples(
    path: Path,
    images: Tensor,
    adversarial: Tensor,
    labels: Tensor,
    predictions: Tensor,
    adversarial_predictions: Tensor,
    threat: Threat,
    *,
    engine: str,
    index: Tensor | None = None,
) -> None:
    """Writes examples as an .npz file that `numpy.load` opens without pickle.

    Arrays: `images` and `adversarial`, float32 [N, C, H, W]; `labels`, `predictions`, `adversarial_predictions` and
    `index`, int64 [N]; `engine` and `norm`, text; `epsilon`, float64.

    Args:
        path: Ends in .npz; written atomically.
        images: float32 [N, C, H, W] in [0, 1].
        adversarial: Like `images`.
        labels: int64 [N].
        predictions: int64 [N], the predicted classes of the images.
        adversarial_predictions: int64 [N], the predicted classes of the examples.
        threat: The threat model of the attacks.
        engine: Name of the attacked engine, or "twin".
        index: int64 [N], index of each image in the data set or in the evidence; by default 0 to N - 1.

    Raises:
        InputError: Another suffix, or mismatched shapes.
        StorageError: The file cannot be written.
    """
    check_suffix(path, (".npz",))
    _check(images, adversarial, labels, predictions, adversarial_predictions)
    places = np.arange(len(images)) if index is None else index.cpu().numpy()
    with open_atomic(path) as file:
        np.savez_compressed(
            file,
            images=images.detach().cpu().numpy(),
            adversarial=adversarial.detach().cpu().numpy(),
            labels=labels.cpu().numpy(),
            predictions=predictions.cpu().numpy(),
            adversarial_predictions=adversarial_predictions.cpu().numpy(),
            index=places,
            engine=np.array(engine),
            norm=np.array(threat.norm),
            epsilon=np.array(threat.epsilon),
        )


def _check(images: Tensor, adversarial: Tensor, labels: Tensor, predictions: Tensor, others: Tensor) -> None:
    lengths = [len(labels), len(predictions), len(others)]
    if images.shape != adversarial.shape or any(length != len(images) for length in lengths) or not len(images):
        msg = f"images {list(images.shape)} and examples {list(adversarial.shape)} have labels, predictions and "
        msg += f"predictions of examples of the lengths {lengths}; at least one of each is needed, and as many of all"
        raise InputError(msg)


def _draw(drawing: Figure, box: tuple[float, float, float, float], pixels: NDArray[np.float64]) -> None:
    axes = drawing.add_axes(box)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color="#c9d0d5", linewidth=0.6)
    small = max(pixels.shape[1:]) <= SIDE * DPI
    axes.imshow(
        pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels.mean(0),
        cmap="gray", vmin=0, vmax=1, interpolation="nearest" if small else "antialiased",
    )  # fmt: skip


def _heading(misclassified: Tensor, correct: Tensor) -> str:
    of = int(correct.sum())
    if not misclassified.any():
        return f"The attacks changed the label of none of {of} correctly classified images"
    return f"The attacks changed the label of {int(misclassified.sum())} of {of} correctly classified images"


def _legend(threat: Threat) -> str:
    most = "ε" if threat.norm == "Linf" else "the image's largest"
    times = f" ({0.5 / threat.epsilon:.3g} times)" if threat.norm == "Linf" else ""
    return (
        f"{threat.norm}, ε = {figure(threat.epsilon)}; difference{times}: grey is 0, white {most}, black its opposite"
    )


def _title(classes: Sequence[str], label: int, prediction: int, adversarial: int) -> str:
    if prediction != label:
        return f"{_name(classes, label)}, clean: {_name(classes, prediction)}"
    if adversarial == label:
        return f"{_name(classes, label)}, robust"
    return f"{_name(classes, label)} → {_name(classes, adversarial)}"


def _name(classes: Sequence[str], place: int) -> str:
    name = classes[place] if place < len(classes) else str(place)
    return name if len(name) <= _NAME else name[: _NAME - 1] + "…"
