"""Real digits in the sizes that the official layouts have."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from sklearn.datasets import load_digits


@pytest.fixture(scope="session")
def grey() -> np.ndarray:
    """uint8 [1797, 8, 8], real handwritten digits."""
    return (load_digits().images * 255 / 16).astype(np.uint8)


@pytest.fixture(scope="session")
def rgb32(grey) -> np.ndarray:
    """uint8 [60, 3, 32, 32]: digits magnified four times, each channel another digit."""
    large = grey[:180].repeat(4, axis=1).repeat(4, axis=2)
    return large.reshape(60, 3, 32, 32)


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keeps the test's output free of one line per request."""


@pytest.fixture
def served(tmp_path, monkeypatch) -> Iterator[tuple[Path, str]]:
    """A folder, and the URL at which a server on this machine offers its files."""
    folder = tmp_path / "server"
    folder.mkdir()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
