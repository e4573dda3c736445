"""The only file names that a bundle may contain."""

from __future__ import annotations

import re

MAX_LENGTH = 240

# Plain ASCII rules out look-alikes, control and right-to-left characters, backslashes and drive letters; a name that
# starts with a dot is hidden in directory listings, and "." and ".." start with one.
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*", re.ASCII)


def check_path(path: str) -> str:
    """Returns a path unchanged if it unambiguously names a file inside a bundle.

    Args:
        path: Relative to the bundle, parts joined by "/", such as "engines/onnx-cpu/model.onnx".

    Raises:
        ValueError: Absolute, outside the folder, not normalised, too long, or with a character other than ASCII
            letters, digits and "._+-".
    """
    if len(path) > MAX_LENGTH:
        msg = f"is longer than {MAX_LENGTH} characters"
        raise ValueError(msg)
    for part in path.split("/"):
        if not _PART.fullmatch(part) or part.endswith("."):
            msg = (
                "is not a path inside the bundle: write names of ASCII letters, digits and ._+- joined by /, "
                "none of which starts or ends with a dot"
            )
            raise ValueError(msg)
    return path


def parents(path: str) -> list[str]:
    """The folders of a bundle that lead to a file: "a/b/c" gives ["a", "a/b"]."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]
