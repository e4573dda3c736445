from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tscnc_deploy.data import digest, load
from tscnc_deploy.data.source import source_of
from tscnc_deploy.errors import DataError
from tscnc_deploy.names import DATASETS
from tscnc_deploy.recipe import Data


def test_digest_imports_no_heavy_package():
    program = (
        "import sys; from tscnc_deploy.data.source import digest; from tscnc_deploy.recipe import Data; "
        "print(len(digest(Data())), sorted({'torch', 'torchvision', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "64 []\n"


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_of_the_recipe_has_a_reader(name):
    assert callable(source_of(name).read)


@pytest.mark.parametrize("function", [load, digest])
def test_an_unknown_data_set_gets_a_suggestion(function):
    # Past the recipe's own check, as a program may build its settings.
    settings = Data.model_construct(dataset="cifar")
    message = "data.dataset = 'cifar' is not digits, cifar10, cifar100, svhn, tiny-imagenet, imagefolder or npz"
    with pytest.raises(DataError, match=rf"{message}; did you mean cifar10\?"):
        function(settings)


def test_the_digest_depends_on_the_content_alone(tmp_path):
    first, moved, changed = tmp_path / "a.npz", tmp_path / "b.npz", tmp_path / "c.npz"
    np.savez(first, train_images=np.zeros(3))
    moved.write_bytes(first.read_bytes())
    np.savez(changed, train_images=np.ones(3))
    settings = Data(dataset="npz", root=str(first))
    assert digest(settings) == digest(Data(dataset="npz", root=str(moved), validation=0.3, image_size=4))
    assert digest(settings) != digest(Data(dataset="npz", root=str(changed)))
