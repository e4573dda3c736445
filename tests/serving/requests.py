"""Requests in JSON for a model of images of two pixels."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("orjson", reason="needs the extra: pip install 'tscnc-deploy[serve]'")

from tscnc_deploy.serving.http.codec import parse_body
from tscnc_deploy.serving.validation import InputValidator

VALIDATOR = InputValidator((1, 1, 2), max_images=4)
GOOD = {"name": "images", "datatype": "FP32", "shape": [1, 1, 1, 2], "data": [0, 1]}


def parse(tensor=None, binary=b"", length="", **document):
    """Parses a request of one tensor; with binary data, the length of its JSON goes into the header."""
    text = json.dumps({"inputs": [GOOD | (tensor or {})]} | document).encode()
    header = length or (str(len(text)) if binary else None)
    return parse_body(text + binary, header, VALIDATOR)


def without_data(**more):
    tensor = {key: value for key, value in GOOD.items() if key != "data"} | more
    return {"inputs": [tensor]}
