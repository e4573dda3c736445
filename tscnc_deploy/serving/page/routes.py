"""HTTP routes of the page, and which of them need the token."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tscnc_deploy.serving.errors import Reason, RequestError
from tscnc_deploy.serving.page.content import Page, locked_page, page_files
from tscnc_deploy.serving.service import Service
from tscnc_deploy.text import escaped

# Allows no external and no inline resources, and no conversion of text to markup.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Vary": "Authorization",
}


def open_paths() -> frozenset[str]:
    """Paths that need no token: the form that asks for it, and the files of the page, which are public."""
    return frozenset({"/", *(f"/page/{name}" for name in page_files())})


def page_routes(service: Service) -> list[Route]:
    """The routes of the page.

    Args:
        service: The state of the server.
    """
    calls = _Calls(service)
    return [
        Route("/", calls.index),
        Route("/page/examples/{number}", calls.example),
        Route("/page/{name}", calls.file),
    ]


class _Calls:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def index(self, request: Request) -> Response:
        page = self._page()
        authorization = request.headers.get("authorization")
        if self._service.requires_token and authorization is None:
            return _response(locked_page().encode(), "text/html")
        self._service.check_token(None if authorization is None else authorization.encode("latin-1"))
        return _response(page.html.encode(), "text/html")

    async def file(self, request: Request) -> Response:
        self._page()
        name = request.path_params["name"]
        if name not in page_files():
            raise _not_found(request)
        return _response(*page_files()[name])

    async def example(self, request: Request) -> Response:
        """Pixels of an image and of its adversarial example, float32 [2, C, H, W]."""
        examples = {str(number): example for number, example in enumerate(self._page().examples)}
        example = examples.get(request.path_params["number"])
        if example is None:
            raise _not_found(request)
        return _response(example.to_bytes(), "application/octet-stream")

    def _page(self) -> Page:
        page = self._service.current.model.page
        if page is None:
            msg = "this server has no page"
            raise RequestError(msg, Reason.NOT_FOUND)
        return page


def _not_found(request: Request) -> RequestError:
    return RequestError(f"{escaped(request.url.path)} is not part of the page", Reason.NOT_FOUND)


def _response(content: bytes, media_type: str) -> Response:
    return Response(content, headers=_HEADERS, media_type=media_type)
