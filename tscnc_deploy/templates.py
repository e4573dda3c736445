"""Finds and fills the templates among the targets in export/."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tscnc_deploy.resources import folder


def fill(template: str, *, autoescape: bool, filters: Iterable[Callable[..., object]] = (), **values: Any) -> str:
    """A template of export/ filled with values.

    Args:
        template: Its file name, such as "report.html.j2".
        autoescape: Whether every value is escaped for HTML.
        filters: Functions that the template may use as filters, under their names.
        values: What the template may use.

    Raises:
        UnavailableError: The installation lacks its templates.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(folder("export")),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {filter_.__name__: filter_ for filter_ in filters}
    return environment.get_template(template).render(**values)
