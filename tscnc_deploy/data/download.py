"""Downloads through torchvision, which either complete or leave nothing behind."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from http.client import HTTPException
from pathlib import Path

from tscnc_deploy.errors import DataError


def download(fetch: Callable[[Path], object], root: Path, wanted: Sequence[str], origin: str) -> None:
    """Fetches files into the root folder.

    Args:
        fetch: Downloads the data into the given folder and checks them.
        root: Folder of the data; created if missing.
        wanted: Names of the files or folders to keep of those that `fetch` creates.
        origin: Where users can get the data themselves.

    Raises:
        DataError: No network, no space, no permission, or a wrong checksum.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        # An interrupted download must not look like a data set, so download into a temporary folder.
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as folder:
            # Standard output is reserved for --json.
            with redirect_stdout(sys.stderr):
                fetch(Path(folder))
            for name in wanted:
                # Another build may have finished the same download in the meantime.
                if not (root / name).exists():
                    (Path(folder) / name).rename(root / name)
    except (OSError, RuntimeError, HTTPException) as error:
        msg = (
            f"data.root = {str(root)!r}: the data are missing and the download failed ({error}); "
            f"put {' and '.join(wanted)} there, from {origin}"
        )
        raise DataError(msg) from error
