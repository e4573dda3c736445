"""The model card: README.md of a bundle, in the format of model hubs."""

from __future__ import annotations

import json
import re
from typing import Any

from tscnc_deploy.record import BuildRecord
from tscnc_deploy.report.templates import fill
from tscnc_deploy.report.wording import verdict

# Characters that could be Markdown or HTML markup within a line, or that make an address or a name a link.
_MARKUP = re.compile(r"([\\`*_\[\]|<>&~$@]|:(?=//)|(?<=www)\.)", re.IGNORECASE)
# What makes a line a heading, a list item or a rule where it stands first.
_FIRST = re.compile(r"^(\d{0,9})([-+#=.)])")


def render_card(data: BuildRecord) -> str:
    """The model card as Markdown with YAML front matter; equal data gives equal text.

    Raises:
        UnavailableError: The templates are missing from the installation.
    """
    return fill(
        "model_card.md.j2",
        autoescape=False,
        data=data,
        verdict=plain(verdict(data)),
        plain=plain,
        yaml=json.dumps,  # every JSON string is a YAML string
        engine=next(iter(data.evaluations.engines), None),
        dataset=_of_recipe(data, "data", "dataset", "unknown"),
        license=_of_recipe(data, "card", "license", "unknown"),
        ships_images=_of_recipe(data, "verify", "ship_images", True),
    )


def _of_recipe(data: BuildRecord, section: str, key: str, default: str | bool) -> Any:
    """A setting of the build; the default if an older record does not have it."""
    settings = data.recipe.get(section)
    found = settings.get(key, default) if isinstance(settings, dict) else default
    return found if isinstance(found, type(default)) else default


def plain(text: str) -> str:
    """Escapes text so that Markdown shows it unchanged on one line."""
    return _FIRST.sub(r"\1\\\2", _MARKUP.sub(r"\\\1", " ".join(text.split())))
