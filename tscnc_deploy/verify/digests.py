"""Names for artefacts by their content."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tscnc_deploy.errors import InputError


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits.

    Raises:
        InputError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise InputError(msg) from error


def digest_of_parts(**parts: object) -> str:
    """SHA-256 of values that JSON can hold, in hexadecimal digits; their order does not matter, their names do."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
