"""Turns every error caused by a bundle's files into a BundleError."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tscnc_deploy.errors import BundleError, InputError
from tscnc_deploy.text import quoted


@contextmanager
def bundle_errors(root: Path) -> Iterator[None]:
    """Raises BundleError, with a message that begins with the bundle's folder, for any OSError or InputError inside."""
    try:
        yield
    except OSError as error:
        inside = isinstance(error.filename, str) and Path(error.filename).is_relative_to(root)
        where = f" {quoted(os.path.relpath(error.filename, root))}" if inside and error.filename != str(root) else ""
        msg = f"{root}:{where} cannot be read: {error.strerror or error}"
        raise BundleError(msg) from error
    except InputError as error:
        if isinstance(error, BundleError) and str(error).startswith(str(root)):
            raise
        msg = f"{root}: {error}"
        raise BundleError(msg) from error
