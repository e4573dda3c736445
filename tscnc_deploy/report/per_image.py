"""The outcomes of all images, as a CSV or Parquet table for other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tscnc_deploy.errors import InputError, UnavailableError
from tscnc_deploy.files import open_atomic
from tscnc_deploy.report.files import check_suffix

if TYPE_CHECKING:
    from torch import Tensor

    from tscnc_deploy.robustness import Evaluation

Row = dict[str, str | int | float | bool | None]


def per_image_rows(
    evaluations: Mapping[str, Evaluation],
    images: Tensor,
    labels: Tensor,
    predictions: Mapping[str, Tensor],
    adversarial_predictions: Mapping[str, Tensor],
    classes: Sequence[str],
    index: Tensor | None = None,
) -> list[Row]:
    """One row for each image and engine; all rows have the same columns, in the same order.

    Columns: `index`, `engine`, `label`, `class`, `clean` (correct without an attack), one for each attack of any engine
    (correct under it, or in a cascade, under it and all earlier ones; None if the engine did not face it), `robust`
    (correct under all attacks), `prediction`, `adversarial_prediction` (of the worst example), and `distance` (of the
    worst example from the image, in the norm of the threat; 0 if no example was worse than the image itself).

    Args:
        evaluations: Evaluations of the same images, by the name of the engine or "twin".
        images: float32 [N, C, H, W] in [0, 1], the evaluated images, in order.
        labels: int64 [N].
        predictions: By the same names, int64 [N], the predicted classes of the images.
        adversarial_predictions: Likewise, of `Evaluation.adversarial`.
        classes: Names of the classes in the order of the logits; a class without a name is shown by its number.
        index: int64 [N], index of each image in the data set or in the evidence; by default 0 to N - 1.

    Raises:
        InputError: Labels, index, predictions or an evaluation have another number of images.
    """
    total, places = len(images), list(range(len(images))) if index is None else index.tolist()
    if len(labels) != total or len(places) != total:
        msg = f"{total} images have {len(labels)} labels and {len(places)} indices"
        raise InputError(msg)
    names = {label: classes[label] if label < len(classes) else str(label) for label in labels.tolist()}
    attacks = dict.fromkeys(attack for evaluation in evaluations.values() for attack in evaluation.robust_by_attack)
    rows: list[Row] = []
    for engine, evaluation in evaluations.items():
        given, found = predictions[engine].tolist(), adversarial_predictions[engine].tolist()
        if {len(evaluation.correct), len(given), len(found)} != {total}:
            msg = f"{engine}: the evaluation is of {len(evaluation.correct)} images, of {len(given)} and {len(found)} "
            msg += f"there are predictions, and {total} images are to be listed"
            raise InputError(msg)
        standing = {attack: mask.tolist() for attack, mask in evaluation.robust_by_attack.items()}
        moves = evaluation.adversarial.double() - images.cpu().double()
        columns: dict[str, list[Any]] = {
            "index": places,
            "engine": [engine] * total,
            "label": labels.tolist(),
            "class": [names[label] for label in labels.tolist()],
            "clean": evaluation.correct.tolist(),
            **{attack: standing.get(attack, [None] * total) for attack in attacks},
            "robust": evaluation.robust_mask.tolist(),
            "prediction": given,
            "adversarial_prediction": found,
            "distance": evaluation.threat.length(moves).tolist(),
        }
        rows += [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return rows


def check_table(path: Path) -> None:
    """Refuses a file that `write_per_image` could not write, before the evaluation.

    Raises:
        InputError: The name ends in neither .csv nor .parquet.
        UnavailableError: Parquet needs pyarrow, and it is not installed.
    """
    check_suffix(path, (".csv", ".parquet"))
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            msg = f"{path}: Parquet needs pyarrow; run: pip install pyarrow; or write a .csv file"
            raise UnavailableError(msg) from error


def write_per_image(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows as CSV (UTF-8, true and false, empty for missing values) or Parquet, by the file's suffix.

    Args:
        path: Ends in .csv or .parquet; written atomically.
        rows: At least one; all with the same columns, as returned by `per_image_rows`.

    Raises:
        InputError: Another suffix, or no rows.
        UnavailableError: Parquet needs pyarrow, and it is not installed.
        StorageError: The file cannot be written.
    """
    check_table(path)
    if not rows:
        msg = f"{path}: no images to list"
        raise InputError(msg)
    with open_atomic(path) as file:
        if path.suffix.lower() == ".csv":
            file.write(_csv(rows))
        else:
            import pyarrow
            import pyarrow.parquet

            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), file)


def _csv(rows: Sequence[Row]) -> bytes:
    stream = io.StringIO(newline="")
    table = csv.DictWriter(stream, rows[0], lineterminator="\n")
    table.writeheader()
    for row in rows:
        table.writerow({name: _word(value) if isinstance(value, bool) else value for name, value in row.items()})
    return stream.getvalue().encode()


def _word(value: bool) -> str:
    return "true" if value else "false"
