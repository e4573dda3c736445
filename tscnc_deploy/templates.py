"""Finds and renders the templates in export/."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tscnc_deploy.resources import folder


def fill(template: str, *, autoescape: bool, filters: Iterable[Callable[..., object]] = (), **values: Any) -> str:
    """Renders a template of export/.

    Args:
        template: File name, such as "report.html.j2".
        autoescape: Whether to escape every value for HTML.
        filters: Functions that the template can use as filters, by name.
        values: Values that the template can use, by name.

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
