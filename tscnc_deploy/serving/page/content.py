"""The page that a server shows at `/`: what protects the model, and the model at work."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import tscnc_deploy
from tscnc_deploy import resources
from tscnc_deploy.report.data import Gate, ReportData
from tscnc_deploy.report.evaluations import Evaluations
from tscnc_deploy.report.templates import fill
from tscnc_deploy.report.wording import verdict
from tscnc_deploy.serving.page.examples import Example, choose_examples

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.report.parts import Accuracy
    from tscnc_deploy.serving.model import Model

_TEMPLATE = "page/index.html.j2"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, eq=False)
class Page:
    """The page of one version of a model.

    Attributes:
        html: All of it.
        examples: The images whose pixels its scripts ask for, by their number.
    """

    html: str
    examples: tuple[Example, ...]


def make_page(bundle: Bundle, model: Model) -> Page:
    """Writes the page of a model; everything from the bundle is escaped.

    Args:
        bundle: The one that the model was opened from.
        model: What is served.

    Raises:
        BundleError: The record is damaged.
        UnavailableError: The installation lacks its templates.
    """
    data = ReportData.from_json(bundle.record)
    examples = choose_examples(bundle, model.spec.name)
    html = fill(
        _TEMPLATE,
        autoescape=True,
        data=data,
        verdict=verdict(data),
        model=model,
        evaluation=data.evaluations.engines.get(model.spec.name),
        gates=[(gate, _bounded(gate, data.evaluations)) for gate in data.gates],
        examples=examples,
        beyond=data.evaluations.measures,
        version=tscnc_deploy.__version__,
    )
    return Page(html, examples)


@cache
def locked_page() -> str:
    """The page for those who have not shown the token yet: says nothing of the model and asks for the token.

    Raises:
        UnavailableError: The installation lacks its templates.
    """
    return fill(_TEMPLATE, autoescape=True, model=None)


@cache
def page_files() -> dict[str, tuple[bytes, str]]:
    """Style and scripts of the page by file name: the content and its media type; the same for every model.

    Raises:
        UnavailableError: The installation lacks them.
    """
    files = sorted((resources.folder("export") / "page").iterdir())
    return {file.name: (file.read_bytes(), _TYPES[file.suffix]) for file in files if file.suffix in _TYPES}


def _bounded(gate: Gate, evaluations: Evaluations) -> Accuracy | None:
    """The accuracy whose interval's lower end a gate looks at, which the record does not name; None if it is none."""
    owner = gate.name.partition(":")[0]
    measured = [evaluations.named[owner]] if owner in evaluations.named else evaluations.named.values()
    found = [accuracy for evaluation in measured for accuracy in (evaluation.clean, evaluation.robust) if accuracy]
    return next((accuracy for accuracy in found if accuracy.low == gate.value), None)
