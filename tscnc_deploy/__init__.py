"""Build image classifiers that are small and hard to fool, and verify both on the exported file.

Importing this package is fast: numpy, torch and onnx are imported only when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from tscnc_deploy.bundle import Bundle

    __version__: str

__all__ = ["__version__", "open_bundle"]


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Opens a bundle after checking every byte of it against its manifest; see `tscnc_deploy.bundle.open_bundle`."""
    from tscnc_deploy import bundle

    return bundle.open_bundle(path)


def __getattr__(name: str) -> str:
    if name != "__version__":
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from tscnc_deploy.versions import own_version

    return own_version()
