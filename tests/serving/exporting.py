"""`tscnc-deploy export`, for the tests of what it writes."""

from __future__ import annotations

from tests.conftest import invoke


def export(folder, out, *arguments, target="triton", status=0):
    done = invoke("export", folder, "--target", target, "--out", out, *arguments)
    assert done.exit_code == status, done.stderr
    return done
