"""Whoever checks a bundle needs no code of any network."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.serving.servers import ROOT

CODE = """
import json, sys
from tscnc_deploy.cli import main

try:
    main(sys.argv[1:], prog_name="tscnc-deploy")
except SystemExit as end:
    print(end.code, file=sys.stderr)
prefixes = ("torchvision", "timm", "onnxscript", "tscnc_deploy.models.")
print(json.dumps(sorted(name for name in sys.modules if name.startswith(prefixes))))
"""


def test_a_check_imports_no_network(tiny_build):
    options = ("--attack", "twin-apgd-2", "--attack", "square-5", "--budget", "none", "--device", "cpu")
    command = [sys.executable, "-c", CODE, "check", tiny_build.bundle, *options]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert ran.stderr.splitlines()[-1] == "0", ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == ["tscnc_deploy.models.folded", "tscnc_deploy.models.taps"]
