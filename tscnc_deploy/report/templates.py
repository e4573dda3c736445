"""The filters by which templates format figures."""

from __future__ import annotations

from typing import Any

from tscnc_deploy import templates
from tscnc_deploy.report import conditions, wording

FILTERS = (
    wording.percent,
    wording.interval,
    wording.accuracy,
    wording.precision_note,
    wording.ends,
    wording.quantile,
    wording.bounds,
    wording.perturbation,
    wording.figure,
    wording.count,
    wording.size,
    wording.form,
    wording.change,
    wording.trained_on,
    wording.duration,
    wording.setting,
    conditions.conditions,
)


def fill(template: str, *, autoescape: bool, **values: Any) -> str:
    """`templates.fill` with `FILTERS`."""
    return templates.fill(template, autoescape=autoescape, filters=FILTERS, **values)
