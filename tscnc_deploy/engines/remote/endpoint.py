"""The address of a model on an inference server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from tscnc_deploy.errors import InputError

SCHEMES = {"http": 80, "https": 443, "grpc": 8001, "grpcs": 443}
_FORM = "write http://HOST:PORT/v2/models/NAME, or grpc:// instead of http://; https:// and grpcs:// are encrypted"


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served over the Open Inference Protocol.

    Attributes:
        url: The URL as the user wrote it.
        scheme: "http", "https", "grpc" or "grpcs".
        host: Host name or IP address.
        port: Port number.
        model: Name of the model.
        version: Version of the model; empty lets the server choose.
    """

    url: str
    scheme: str
    host: str
    port: int
    model: str
    version: str = ""

    @classmethod
    def parse(cls, url: str) -> Self:
        """Reads an address such as "http://localhost:8000/v2/models/digits" or ".../digits/versions/2".

        Raises:
            InputError: `url` does not have that form.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or SCHEMES.get(parts.scheme, 0)
        except ValueError:  # an invalid port
            parts, port = urlsplit(""), 0
        match parts.path.strip("/").split("/"):
            case ["v2", "models", model]:
                version = ""
            case ["v2", "models", model, "versions", version]:
                pass
            case _:
                model = version = ""
        plain = not (parts.query or parts.fragment or parts.username or parts.password)
        if not (port and parts.hostname and model and plain and url.isascii() and url.isprintable() and " " not in url):
            msg = f"{url}: not the address of a model; {_FORM}"
            raise InputError(msg)
        return cls(url, parts.scheme, parts.hostname, port, model, version)

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def path(self) -> str:
        """Path of the model on an HTTP server."""
        return f"/v2/models/{self.model}" + (f"/versions/{self.version}" if self.version else "")


def is_url(text: str) -> bool:
    """Whether a text is an address rather than a path."""
    return text.partition("://")[0] in SCHEMES and "://" in text
