"""Downloads through torchvision that either complete or leave nothing behind."""

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
        fetch: Downloads and checks the data into the folder it is given.
        root: Folder of the data, made if it is missing.
        wanted: Names of the files or folders that `fetch` leaves and that are kept.
        origin: Where a user gets the data by hand.

    Raises:
        DataError: No network, no space, no permission, or a checksum that differs.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        # A download that is cut short must not look like a data set, so it grows in a folder of its own.
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as folder:
            # Standard output belongs to --json.
            with redirect_stdout(sys.stderr):
                fetch(Path(folder))
            for name in wanted:
                # Another build may have finished the same download meanwhile.
                if not (root / name).exists():
                    (Path(folder) / name).rename(root / name)
    except (OSError, RuntimeError, HTTPException) as error:
        msg = (
            f"data.root = {str(root)!r}: the data are not there and the download failed ({error}); "
            f"put {' and '.join(wanted)} there, from {origin}"
        )
        raise DataError(msg) from error
