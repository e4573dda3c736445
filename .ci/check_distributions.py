"""Fails where a wheel or an sdist lacks what users need: python .ci/check_distributions.py FOLDER"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

IN_WHEEL = (
    "tscnc_deploy/py.typed",
    "tscnc_deploy/open_inference/open_inference.binpb",
    "tscnc_deploy/engines/sparse_cpu/_core.so",
    "tscnc_deploy/_shipped/pipelines/digits.toml",
    "tscnc_deploy/_shipped/pipelines/sweeps/digits-criteria.toml",
    "tscnc_deploy/_shipped/export/onnx-cpu.toml",
    "tscnc_deploy/_shipped/export/page/main.js",
)
IN_SDIST = (
    "setup.py",
    "LICENSE",
    "tscnc_deploy/open_inference/open_inference.proto",
    "tscnc_deploy/engines/sparse_cpu/csrc/api.h",
    "pipelines/digits.toml",
    "export/onnx-cpu.toml",
    "tests/conftest.py",
)
# Without dependencies, so nothing here may import more than the standard library.
PROBE = """
import ctypes, importlib.metadata as metadata, pathlib
import tscnc_deploy
from tscnc_deploy import resources
package = pathlib.Path(tscnc_deploy.__file__).parent
assert "site-packages" in package.parts, package
assert tscnc_deploy.__version__ == metadata.version("tscnc-deploy") != "0+unknown"
ctypes.CDLL(str(package / "engines/sparse_cpu/_core.so"))
assert (resources.folder("pipelines") / "digits.toml").is_file()
assert (resources.folder("export") / "onnx-cpu.toml").is_file()
print("tscnc-deploy", tscnc_deploy.__version__)
"""


def main(folder: Path) -> int:
    wheels, sdists = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    problems = [] if wheels else [f"{folder} holds no wheel"]
    for wheel in wheels:
        if "-py3-none-" not in wheel.name:
            problems.append(f"{wheel.name} is not for every Python 3")
        names = zipfile.ZipFile(wheel).namelist()
        problems += [f"{wheel.name} lacks {name}" for name in IN_WHEEL if name not in names]
        stray = [
            name for name in names if name.startswith(("tests/", "benchmarks/")) or name.endswith((".cpp", ".proto"))
        ]
        problems += [f"{wheel.name} holds {name}" for name in stray]
    for sdist in sdists:
        with tarfile.open(sdist) as archive:
            names = [name.partition("/")[2] for name in archive.getnames()]
        problems += [f"{sdist.name} lacks {name}" for name in IN_SDIST if name not in names]
        problems += [f"{sdist.name} holds {name}" for name in names if name.endswith((".so", ".binpb"))]
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        for wheel in wheels:
            install(wheel)
    return 1 if problems else 0


def install(wheel: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True)
        python = Path(scratch, "bin", "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
        subprocess.run([python, "-c", PROBE], check=True, cwd=scratch)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
