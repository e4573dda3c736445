"""Renders the page of a model: how it was tested, and the forms that run it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tscnc_deploy.record import Evaluations, Gate
from tscnc_deploy.report.templates import fill
from tscnc_deploy.report.wording import verdict
from tscnc_deploy.serving.page.content import TEMPLATE, Page
from tscnc_deploy.serving.page.examples import choose_examples
from tscnc_deploy.versions import own_version

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.record import Accuracy
    from tscnc_deploy.serving.model import Model


def render_page(bundle: Bundle, model: Model) -> Page:
    """Renders the page of a model; text from the bundle is escaped.

    Args:
        bundle: The bundle from which the model was opened.
        model: The model being served.

    Raises:
        BundleError: The record is damaged.
        UnavailableError: The templates are missing from the installation.
    """
    data = bundle.record
    examples = choose_examples(bundle, model.spec.name)
    html = fill(
        TEMPLATE,
        autoescape=True,
        data=data,
        verdict=verdict(data),
        model=model,
        evaluation=data.evaluations.engines.get(model.spec.name),
        gates=[(gate, _gated_accuracy(gate, data.evaluations)) for gate in data.gates],
        examples=examples,
        beyond=data.evaluations.measures,
        version=own_version(),
    )
    return Page(html, examples)


def _gated_accuracy(gate: Gate, evaluations: Evaluations) -> Accuracy | None:
    """The accuracy whose lower end a gate compares with its limit; None if the gate is about something else.

    The record does not name it, so it is found by its value.
    """
    owner = gate.name.partition(":")[0]
    measured = [evaluations.named[owner]] if owner in evaluations.named else evaluations.named.values()
    found = [accuracy for evaluation in measured for accuracy in (evaluation.clean, evaluation.robust) if accuracy]
    return next((accuracy for accuracy in found if accuracy.low == gate.value), None)
