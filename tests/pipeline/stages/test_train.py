from __future__ import annotations

import pytest

from tscnc_deploy.errors import InputError
from tscnc_deploy.pipeline.stages.train import Train
from tscnc_deploy.recipe import Model, Recipe


def test_the_fingerprint_covers_the_bytes_of_the_weights_and_which_of_them(tmp_path):
    for name, content in (("a.pt", b"1"), ("b.pt", b"1"), ("c.pt", b"2")):
        (tmp_path / name).write_bytes(content)

    def settings(name, key=None):
        return Train().settings(Recipe(name="x", model=Model(checkpoint=str(tmp_path / name), checkpoint_key=key)))

    assert settings("a.pt") == settings("b.pt")
    assert settings("a.pt") != settings("c.pt")
    assert settings("a.pt")["model"]["checkpoint_key"] is None
    assert settings("a.pt", "ema")["model"]["checkpoint_key"] == "ema"


def test_a_key_without_a_file_is_refused():
    with pytest.raises(
        InputError,
        match=r"model.checkpoint_key = 'ema' chooses among the weights of model.checkpoint; set that too, or leave",
    ):
        Train().settings(Recipe(name="x", model=Model(checkpoint_key="ema")))
