"""Checks that the packages of the extra "serve" are installed."""

from __future__ import annotations

from importlib.util import find_spec

from tscnc_deploy.errors import UnavailableError

_MODULES = ("starlette", "httptools", "grpc", "orjson", "prometheus_client")


def require_packages() -> None:
    """Checks that everything that serving imports is installed.

    Raises:
        UnavailableError: Something is missing; the message has the command that installs it.
    """
    if missing := [name for name in _MODULES if find_spec(name) is None]:
        msg = f"serving needs {', '.join(missing)}; run: pip install 'tscnc-deploy[serve]'"
        raise UnavailableError(msg)
