"""Converts a matplotlib figure to an SVG element that can be embedded in an HTML page."""

from __future__ import annotations

import io
import re
from contextlib import AbstractContextManager
from html import escape

import matplotlib.style
from matplotlib.figure import Figure

# Text stays text, so that it is searchable, accessible and uses the page's font. The salt makes ids repeatable.
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tscnc-deploy",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": "#8a939b",
    "axes.labelcolor": "#1c2329",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e4e8eb",
    "grid.linewidth": 0.8,
    "xtick.color": "#4a545c",
    "ytick.color": "#4a545c",
    "xtick.labelcolor": "#1c2329",
    "ytick.labelcolor": "#1c2329",
    "legend.frameon": False,
    "text.parse_math": False,
    "figure.constrained_layout.use": True,
}
_WITHOUT = {"Creator": None, "Date": None, "Format": None, "Type": None}


def style() -> AbstractContextManager[None]:
    """The style of all figures, independent of the user's matplotlibrc; draw and call `render` inside it."""
    return matplotlib.style.context(["default", _STYLE])


def render(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as one <svg> element; equal figures give equal text.

    Args:
        figure: A figure created with matplotlib's object interface, without global state.
        name: Unique name on the page; prefix of all ids in the element, which avoids clashes with other figures.
        title: Title for screen readers.
        description: Description for screen readers.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata=_WITHOUT)
    text = stream.getvalue()
    body = text[text.index("<svg") :]
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'href="#', f'href="#{name}-', body).replace("url(#", f"url(#{name}-")
    view_box = re.search(r'viewBox="[^"]*"', body)
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{view_box.group() if view_box else ""} role="img" aria-labelledby="{name}-title {name}-description">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-description">{escape(description)}</desc>'
    )
    return opening + body[body.index(">") + 1 :].strip()
