"""The templates among the targets in export/, with the filters that put figures into words."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tscnc_deploy import resources
from tscnc_deploy.report import conditions, wording


def fill(template: str, *, autoescape: bool, **values: Any) -> str:
    """A template of export/ filled with values.

    Args:
        template: Its file name, such as "report.html.j2".
        autoescape: Whether every value is escaped for HTML.
        values: What the template may use.

    Raises:
        UnavailableError: The installation lacks its templates.
    """
    environment = Environment(
        loader=FileSystemLoader(resources.folder("export")),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters = (
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
        wording.duration,
        wording.setting,
        conditions.conditions,
    )
    environment.filters |= {filter_.__name__: filter_ for filter_ in filters}
    return environment.get_template(template).render(**values)
