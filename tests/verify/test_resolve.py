from __future__ import annotations

import pytest

from tests.bundle.folders import contents, write_files
from tscnc_deploy import open_bundle
from tscnc_deploy.bundle import seal
from tscnc_deploy.errors import MissingDataError
from tscnc_deploy.verify.request import VerifyRequest
from tscnc_deploy.verify.resolve import resolve


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A bundle whose recipe asks for a download to a folder of its choice."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    write_files(folder)
    recipe = f'name = "tiny"\n[data]\ndataset = "cifar10"\nroot = "{tmp_path / "chosen"}"\ndownload = true\n'
    (folder / "recipe.toml").write_text(recipe)
    seal(folder, contents())
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize(
    ("overrides", "options", "root"),
    [
        ((), {}, "data"),
        ((), {"dataset": "cifar100"}, "data"),
        (("data.test_limit=5",), {}, "data"),
        (("data.root=mine",), {}, "mine"),
        (("data.root=mine",), {"data_root": "yours"}, "yours"),
    ],
)
def test_only_the_user_chooses_the_folder_of_the_data(bundle, overrides, options, root):
    assert open_bundle(bundle).load_recipe(overrides, **options).data.root == root


@pytest.mark.parametrize(
    ("options", "root"),
    [
        ({"dataset": "cifar10"}, "data"),
        ({"overrides": ("data.test_limit=5",)}, "data"),
        ({"dataset": "cifar10", "data_root": "mine"}, "mine"),
    ],
)
def test_a_bundle_does_not_choose_where_a_download_goes(bundle, tmp_path, monkeypatch, options, root):
    made = []

    def download(_fetch, folder, _wanted, _origin):
        folder.mkdir(parents=True)
        made.append(str(folder))

    monkeypatch.setattr("tscnc_deploy.data.cifar.download", download)
    with pytest.raises(MissingDataError):
        resolve(VerifyRequest(bundle, engines=("twin",), device="cpu", **options))
    assert made == [root]
    assert not (tmp_path / "chosen").exists()
