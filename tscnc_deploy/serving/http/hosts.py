"""Which host names requests may name: a defence against DNS rebinding."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from tscnc_deploy.serving.errors import Reason, RequestError
from tscnc_deploy.text import escaped

ANY = "*"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class AllowedHosts:
    """The host names under which a server answers.

    A page on another site can let its own name point to this server's address, and then a browser lets the page read
    the responses (DNS rebinding). Its requests carry that name in the header Host. So a server answers under the names
    of the loopback interface, the address that it is bound to, and the names that its user lists. One that is bound to
    all interfaces answers under every IP address too: rebinding needs a name.

    Args:
        bound: Host name or IP address that the server is bound to.
        names: Other names or addresses, without a port; "*" allows every name.
    """

    def __init__(self, bound: str = "127.0.0.1", names: Iterable[str] = ()) -> None:
        self._names = _LOOPBACK | {_normal(name) for name in (bound, *names)}
        self._every_address = _is_unspecified(bound)

    def check(self, hosts: list[bytes]) -> None:
        """Rejects a request that does not name exactly one allowed host.

        Args:
            hosts: The values of all headers "host" of the request.

        Raises:
            RequestError: There is not exactly one, it is malformed, or it names another host.
        """
        if len(hosts) != 1:
            msg = f"a request needs one header Host, not {len(hosts)}"
            raise RequestError(msg)
        name = _without_port(hosts[0].decode("latin-1"))
        if ANY in self._names or name in self._names or (self._every_address and _is_address(name)):
            return
        msg = f"this server does not answer as {escaped(name)}; its --allowed-host options list other names"
        raise RequestError(msg, Reason.MISDIRECTED)


def _without_port(host: str) -> str:
    """The normal form of the name in a header "host": NAME, NAME:PORT, [IPV6] or [IPV6]:PORT."""
    name, separator, port = host.rpartition(":")
    if not separator or host.endswith("]"):
        name, port = host, ""
    if port and not (port.isascii() and port.isdigit()):
        msg = f"the header Host is {escaped(host)}, which is not a host name"
        raise RequestError(msg)
    if not name:
        msg = "the header Host is empty"
        raise RequestError(msg)
    return _normal(name)


def _normal(name: str) -> str:
    name = name.lower().removesuffix(".")
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    return str(ip_address(name)) if _is_address(name) else name


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_unspecified(name: str) -> bool:
    return _is_address(name) and ip_address(name).is_unspecified
