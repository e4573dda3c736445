"""What can be known of the images without building them; tests/container/run builds and runs them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
COPIED = [source for line in re.findall(r"^COPY (?!--from)(.*)$", TEXT, re.MULTILINE) for source in line.split()[:-1]]


@pytest.mark.parametrize("source", COPIED)
def test_what_is_copied_is_there_and_sent_to_the_builder(source):
    assert (ROOT / source).exists()
    assert f"!{source}" in (ROOT / ".dockerignore").read_text().splitlines()


def test_the_version_is_an_argument_and_otherwise_that_of_sources_without_history():
    fallback = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools_scm"]["fallback_version"]
    assert f"\nARG VERSION={fallback}\n" in TEXT[: TEXT.index("\nFROM ")]
    # A stage sees a global argument only where it declares it.
    stages = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", TEXT, re.MULTILINE | re.DOTALL))
    assert [name for name, text in stages.items() if "ARG VERSION\n" in text] == ["wheel", "runtime"]
    assert "SETUPTOOLS_SCM_PRETEND_VERSION_FOR_TSCNC_DEPLOY=${VERSION}\n" in stages["wheel"]


def test_older_builders_can_read_it():
    assert "<<" not in TEXT
    assert "--link" not in TEXT
    assert "--mount" not in TEXT


def test_onnxruntime_for_cpus_is_as_new_as_the_package_asks_for():
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (wanted,) = (each.partition(";")[0] for each in dependencies if each.startswith("onnxruntime>"))
    assert f'"{wanted}"' in TEXT


def test_arguments_are_declared_in_the_stages_that_read_them():
    """A stage takes none from the one it is based on, say some builders."""
    for stage in ("build", "build-gpu"):
        commands = re.search(rf"^FROM install AS {stage}\n(.*?)\n\n", TEXT, re.MULTILINE | re.DOTALL)[1]
        for name in ("SSL_CERT_FILE", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_TORCH_BACKEND"):
            assert f"ARG {name}\n" in commands


def test_images_do_not_run_as_root():
    for target in ("check", "serve", "gpu"):
        base = re.search(rf"^FROM (\S+) AS {target}$", TEXT, re.MULTILINE)
        assert base and base[1] in ("runtime", "check")
    assert "USER 10001:10001" in TEXT[TEXT.index("AS runtime") : TEXT.index("AS check")]
