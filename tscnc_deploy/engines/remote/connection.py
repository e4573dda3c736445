"""Chooses the transport for an address."""

from __future__ import annotations

from tscnc_deploy.engines.remote.endpoint import Endpoint
from tscnc_deploy.engines.remote.http_transport import HttpTransport
from tscnc_deploy.engines.remote.transport import Transport
from tscnc_deploy.errors import UnavailableError


def connect(endpoint: Endpoint, *, token: str | None, timeout: float) -> Transport:
    """The transport for an endpoint's scheme; connects on first use.

    Raises:
        UnavailableError: gRPC is not installed.
    """
    if endpoint.scheme.startswith("http"):
        return HttpTransport(endpoint, token, timeout)
    try:
        import grpc  # noqa: F401
    except ImportError as error:
        msg = f"{endpoint.url}: gRPC is not installed; run: pip install 'tscnc-deploy[serve]', or use the HTTP address"
        raise UnavailableError(msg) from error
    from tscnc_deploy.engines.remote.grpc_transport import GrpcTransport

    return GrpcTransport(endpoint, token, timeout)
