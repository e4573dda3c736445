from __future__ import annotations

from importlib.metadata import version

from tscnc_deploy.bundle.provenance import distributions
from tscnc_deploy.bundle.provenance.distributions import build_distributions


def test_lists_what_this_package_requires_and_nothing_else():
    found = build_distributions()
    assert list(found) == sorted(found)
    assert found["torch"].version == version("torch")
    assert {"torch", "onnx", "numpy", "cyclonedx-python-lib"} <= set(found["tscnc-deploy"].requires)
    assert "jinja2" in found["torch"].requires
    assert "markupsafe" in found  # required by jinja2 alone
    assert "pytest" not in found  # installed, as these tests run, and no part of a build
    assert "license-expression" in found["cyclonedx-python-lib"].requires
    assert "jsonschema" not in found["cyclonedx-python-lib"].requires  # of an extra that nothing here asks for


def test_every_requirement_is_listed_itself():
    found = build_distributions()
    assert {name for each in found.values() for name in each.requires} <= set(found)


def test_licences_are_on_one_line():
    found = build_distributions()
    assert found["cyclonedx-python-lib"].license == "Apache-2.0"
    assert all("\n" not in each.license for each in found.values() if each.license)


def test_a_checkout_that_was_never_installed_says_it_in_its_project_file(monkeypatch):
    def nothing(name):
        raise distributions.PackageNotFoundError(name)

    monkeypatch.setattr(distributions, "requires", nothing)
    declared = distributions._declared("tscnc-deploy")
    assert "torch>=2.11" in declared
    assert "tensorrt-rtx>=1.2" in declared
    assert "pytest>=8" not in declared
