"""Output, files and exit status of `tscnc-deploy verify`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tscnc_deploy.cli.common.gates import missed_gate
from tscnc_deploy.cli.common.output import print_table

if TYPE_CHECKING:
    from tscnc_deploy.report.per_image import Row
    from tscnc_deploy.verify.resolve import Resolved
    from tscnc_deploy.verify.run import VerifyResult


def show(found: Mapping[str, VerifyResult]) -> None:
    """Prints a table per engine, and notes on its figures."""
    for name, result in found.items():
        _show_one(name, result)
    click.echo(_verdict(found))


def _verdict(found: Mapping[str, VerifyResult]) -> str:
    failed = _failed_gates(found)
    if failed:
        return "inconclusive" if all(gate["inconclusive"] for _, gate in failed) else "failed"
    if not any(gate["limit"] > 0 for result in found.values() for gate in result.measured.gates):
        return "no gate was set (--set gates.robust=0.5 sets one)"
    return "passed"


def show_reading(reading: Mapping[str, Any]) -> None:
    """Prints how a third-party file is read, and where gradients come from, to standard error."""
    for note in reading["notes"]:
        click.echo(note, err=True)
    gradients = reading["gradients"]
    if gradients is not None:
        start = "" if gradients["used"] else "no "
        whose = "its twin" if gradients["used"] and gradients["batch"] is None else "the file's own graph"
        click.echo(f"{start}gradients from {whose}: {gradients['why']}", err=True)


def _show_one(name: str, result: VerifyResult) -> None:
    from tscnc_deploy.report.wording import precision_note
    from tscnc_deploy.robustness.batches import takes_single_images

    evaluation = result.evaluation
    rows = {"clean": evaluation.clean, **evaluation.attacks, "worst case": evaluation.robust}
    print_table(
        (f"{name}, {evaluation.threat.norm} {evaluation.threat.epsilon:g}", "accuracy", "images", "95% interval"),
        [
            (what, f"{a.accuracy:.1%}", f"{a.correct} of {a.total}", f"{a.low:.1%} to {a.high:.1%}")
            for what, a in rows.items()
        ],
    )
    notes = [f"worst case: {precision_note(evaluation.robust)}"]
    if result.measured.stopped:
        notes.append("ended after {images} of {of} images: {reason}".format(**result.measured.stopped))
    if takes_single_images(result.measured.case.victim):
        notes.append("given one image at a time: its dynamic quantisation takes its scales from the whole batch")
    if not result.gradient:
        notes.append("attacked as a black box; with its PyTorch model (--twin), attacks may be stronger")
    for warning in result.measured.warnings or []:
        figure = "not finite" if warning.figure is None else f"{warning.figure:.3g}"
        measured = "" if warning.limit is None else f" ({figure}, limit {warning.limit:.3g})"
        notes.append(f"WARNING {warning.name}{measured}: {warning.message}")
    for note in notes:
        click.echo(f"  {note}")
    for what, figures in result.measured.measures.items():
        click.echo(f"  {what}: {_gist(what, figures.to_json())}")


def _gist(name: str, figures: dict[str, Any]) -> str:
    """A measure on one line, as quantiles for per-image values; the JSON has all details."""
    match name:
        case "corruptions":
            count = len(figures["corruptions"])
            return f"{_share(figures['mean'])} on average over {count} corruptions at five severities"
        case "curve":
            return ", ".join(f"{_share(point)} at {point['epsilon']:.3g}" for point in figures["curve"])
        case "smoothing":
            return ", ".join(
                f"{_share(point)} certified at L2 {point['radius']:.3g}" for point in figures["curve"][::3]
            )
        case _:  # one number per image
            return "  ".join(
                f"{quantile['share']:.0%}: {_value(quantile, figures)}" for quantile in figures["quantiles"]
            )


def _share(figures: dict[str, Any]) -> str:
    return f"{figures['accuracy']:.1%} [{figures['low']:.1%}, {figures['high']:.1%}]"


def _value(quantile: dict[str, Any], figures: dict[str, Any]) -> str:
    beyond = figures.get("largest", 0)
    return f"> {beyond:.3g}" if quantile["value"] is None else f"{quantile['value']:.3g}"


def check_outputs(per_image: Path | None, examples: Path | None) -> None:
    """Refuses output files that cannot be written, before hours of attacks.

    Raises:
        InputError: An unknown suffix, or a folder that cannot be created.
        UnavailableError: A package is missing.
    """
    from tscnc_deploy.errors import InputError
    from tscnc_deploy.report.per_image import check_table

    if per_image is not None:
        check_table(per_image)
    if examples is not None:
        try:
            examples.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"--save-examples {examples}: cannot be created: {error.strerror}"
            raise InputError(msg) from error


def write_outputs(found: Mapping[str, VerifyResult], per_image: Path | None, examples: Path | None) -> None:
    """Writes the additional output files."""
    if per_image is not None:
        from tscnc_deploy.report.per_image import write_per_image

        write_per_image(per_image, _rows(found))
    if examples is not None:
        for name, result in found.items():
            _save_examples(examples, name, result)


def _rows(found: Mapping[str, VerifyResult]) -> list[Row]:
    """The rows of all engines, which may differ in their number of images and in their attacks."""
    from tscnc_deploy.report.per_image import per_image_rows

    rows = [
        row
        for name, result in found.items()
        for row in per_image_rows(
            {name: result.evaluation},
            result.artifact.images,
            result.artifact.labels,
            {name: result.measured.predictions},
            {name: result.measured.adversarial_predictions},
            result.artifact.classes,
            result.artifact.index,
        )
    ]
    attacks = dict.fromkeys(name for result in found.values() for name in result.evaluation.robust_by_attack)
    others = [column for column in rows[0] if column not in attacks]
    after_clean = others.index("clean") + 1
    columns = [*others[:after_clean], *attacks, *others[after_clean:]]
    return [{column: row.get(column) for column in columns} for row in rows]


def _save_examples(folder: Path, name: str, result: VerifyResult) -> None:
    from tscnc_deploy.report.gallery import save_examples, write_gallery

    artifact, evaluation = result.artifact, result.evaluation
    found = (
        artifact.images,
        evaluation.adversarial,
        artifact.labels,
        result.measured.predictions,
        result.measured.adversarial_predictions,
    )
    save_examples(folder / f"{name}.npz", *found, index=artifact.index, engine=name, threat=evaluation.threat)
    write_gallery(folder / f"{name}.png", *found, artifact.classes, evaluation.threat)


def show_deployed(deployed: Mapping[str, Any]) -> None:
    """Prints how a live server compares with the bundle that it should serve."""
    parity, evidence = deployed["parity"], deployed["evidence"]
    named = {None: "reports no bundle", True: "reports this bundle", False: "reports ANOTHER bundle"}
    flips = len(parity["flips_clean"]) + len(parity["flips_adversarial"])
    click.echo(
        f"the server {named[deployed['same_bundle']]}; its logits differ from the twin's by at most "
        f"{_difference(parity)} (tolerance {parity['tolerance']:g}), {flips} labels flipped"
    )
    if evidence and evidence["robust"]:
        click.echo(f"the bundle's own evidence: {evidence['robust']['accuracy']:.1%} robust")


def require_deployed(artifact: Path | str, resolved: Resolved) -> None:
    """Refuses a live server that does not match its bundle.

    Raises:
        GateFailedError: The server reports another bundle, or logits differ too much.
    """
    from tscnc_deploy.errors import GateFailedError

    if not resolved.deployed or resolved.deployed_passed:
        return
    parity = resolved.deployed["parity"]
    what = (
        f"its logits differ from the twin's by {_difference(parity)}, more than {parity['tolerance']:g}"
        if not parity["passed"]
        else f"it reports the bundle {resolved.deployed['bundle_sha256']}"
    )
    msg = f"{artifact}: does not serve this bundle: {what}"
    raise GateFailedError(msg)


def _difference(parity: Mapping[str, Any]) -> str:
    return "infinity" if parity["max_abs_diff"] is None else f"{parity['max_abs_diff']:.3g}"


def _failed_gates(found: Mapping[str, VerifyResult]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, gate) for name, result in found.items() for gate in result.measured.gates if not gate["passed"]]


def require_gates(artifact: Path | str, found: Mapping[str, VerifyResult]) -> None:
    """Raises the error for failed gates, which determines the exit status.

    Raises:
        InconclusiveError: All failed gates might pass with more images; the message says how many.
        GateFailedError: Other gates failed.
    """
    from tscnc_deploy.errors import GateFailedError, InconclusiveError

    failed = _failed_gates(found)
    if not failed:
        return
    if not all(gate["inconclusive"] for _, gate in failed):
        raise GateFailedError("\n".join(f"{artifact}: gate failed: {missed_gate(gate, name)}" for name, gate in failed))
    lines = []
    for name, gate in failed:
        needed = gate["images_to_settle"]
        settle = f"about {needed} images in total would settle it" if needed else "more images would not settle it"
        lines.append(
            f"{name}: {gate['name']} {gate['value']:.4f} is below {gate['limit']:g}, its upper end above; {settle}"
        )
    raise InconclusiveError("\n".join(lines))
