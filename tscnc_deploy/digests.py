"""SHA-256 digests, as 64 lower-case hexadecimal digits."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from pathlib import Path

from tscnc_deploy.errors import InputError


def digest_of_bytes(data: bytes) -> str:
    """SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def digest_of_chunks(chunks: Iterable[bytes]) -> str:
    """SHA-256 of the concatenated chunks; the caller must make their boundaries unambiguous."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def digest_of_stream(file: io.BufferedReader) -> str:
    """SHA-256 of an open file's bytes, from its current position to its end."""
    return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        InputError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return digest_of_stream(file)
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise InputError(msg) from error


def digest_of_parts(**parts: object) -> str:
    """SHA-256 of values that JSON can represent; depends on their names but not on their order.

    Raises:
        ValueError: A number is NaN or infinite, which JSON cannot represent.
    """
    return digest_of_bytes(json.dumps(parts, sort_keys=True, allow_nan=False).encode())
