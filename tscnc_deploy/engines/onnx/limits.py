"""Limits on what an ONNX file may contain."""

from __future__ import annotations

MAX_BYTES = 2**31 - 1
"""The largest file that protobuf supports."""
MAX_ELEMENTS = MAX_BYTES // 4
"""Limit on the elements of all sparse weights of a file together: more would not fit into a dense file."""
MAX_ALIVE = 1 << 26
"""Limit on the elements that are alive at the same time in one call; 256 MB as float32."""
