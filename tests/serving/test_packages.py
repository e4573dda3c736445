from __future__ import annotations

import os
import subprocess
import sys


def test_a_missing_extra_is_3_with_the_command_that_installs_it(served_bundle, tmp_path):
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'starlette': raise ModuleNotFoundError(name)\n"
        "from importlib import util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, package=None: None if name == 'starlette' else find(name, package)\n"
        "from tscnc_deploy.cli import main\n"
        f"main(['serve', {str(served_bundle)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 3
    assert done.stderr == "error: serving needs starlette; run: pip install 'tscnc-deploy[serve]'\n"
