import importlib.metadata

import pytest

import tscnc_deploy
from tscnc_deploy.versions import installed_version, is_older, own_version


def test_versions_of_what_is_installed_and_of_what_is_not():
    assert installed_version("click") == importlib.metadata.version("click")
    assert installed_version("no-such-distribution") is None
    assert tscnc_deploy.__version__ == own_version()


@pytest.mark.parametrize(
    ("found", "least", "older"),
    [
        ("2.9.1", "2.11", True),
        ("2.11.0", "2.11", False),
        ("2.11.0+cpu", "2.11", False),
        ("2.12.0.dev20260101+cu130", "2.11", False),
        ("2.11.0rc1", "2.11", True),
        ("10.9.0", "10.12", True),
        ("10.12.0.36", "10.12", False),
        ("local build", "1.0", True),
    ],
)
def test_versions_are_compared_as_pep_440_says(found, least, older):
    assert is_older(found, least) is older
