"""Requests to a server over HTTP and gRPC."""

from __future__ import annotations

import urllib.request


def get(address, path, token=None, scheme="http", **options):
    request = urllib.request.Request(f"{scheme}://{address}{path}")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=10, **options) as response:
        return response.read()


def tensor(module, images):
    made = module.InferInput("images", list(images.shape), "FP32")
    made.set_data_from_numpy(images)
    return [made]
