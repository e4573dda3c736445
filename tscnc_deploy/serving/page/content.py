"""The content of the page that a server shows at `/`, and the files that the page loads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from tscnc_deploy import resources
from tscnc_deploy.report.templates import fill

if TYPE_CHECKING:
    from tscnc_deploy.serving.page.examples import Example

TEMPLATE = "page/index.html.j2"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, eq=False)
class Page:
    """The page for one version of a model.

    Attributes:
        html: The document.
        examples: The images whose pixels the page's scripts request, by index.
    """

    html: str
    examples: tuple[Example, ...]


@cache
def locked_page() -> str:
    """The page for clients that have not sent the token: asks for the token and says nothing about the model.

    Raises:
        UnavailableError: The templates are missing from the installation.
    """
    return fill(TEMPLATE, autoescape=True, model=None)


@cache
def page_files() -> dict[str, tuple[bytes, str]]:
    """Styles and scripts by file name: the content and its media type; the same for every model.

    Raises:
        UnavailableError: The files are missing from the installation.
    """
    files = sorted((resources.folder("export") / "page").iterdir())
    return {file.name: (file.read_bytes(), _TYPES[file.suffix]) for file in files if file.suffix in _TYPES}
