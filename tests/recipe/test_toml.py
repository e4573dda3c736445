from __future__ import annotations

import tomllib

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tscnc_deploy.recipe import (
    ARCHITECTURES,
    DATASETS,
    Constrain,
    Data,
    Export,
    Finetune,
    Gates,
    Model,
    Prune,
    Recipe,
    Threat,
    Train,
    Verify,
)
from tscnc_deploy.recipe.file import load_recipe
from tscnc_deploy.recipe.toml import to_toml, toml_value

counts = st.integers(1, 2**31 - 1)
epochs = st.integers(0, 2**31 - 1)
shares = st.floats(0, 1, exclude_max=True)
positive = st.floats(0, exclude_min=True, allow_infinity=False)
attack = st.one_of(
    st.just("fgsm"),
    st.builds("pgd-{}x{}".format, st.integers(1, 999), st.integers(1, 99)),
    st.builds("square-{}".format, st.integers(1, 9999)),
)
stages = st.sampled_from([(), ("train",), ("prune", "finetune")])
attacks = st.lists(attack, min_size=1, max_size=3, unique=True).map(tuple)
# "none" unsets, so it is no text of its own; lone surrogates are no text at all.
text = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda value: value != "none")


@st.composite
def recipes(draw):
    try:
        return Recipe(
            name=draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)),
            description=draw(text),
            seed=draw(st.integers(0, 2**31 - 1)),
            data=Data(
                dataset=draw(st.sampled_from(DATASETS)),
                root=draw(text),
                image_size=draw(st.none() | counts),
                validation=draw(st.floats(0.01, 0.9)),
                download=draw(st.booleans()),
            ),
            model=Model(
                arch=draw(st.sampled_from(ARCHITECTURES)),
                width=draw(positive),
                checkpoint=draw(st.none() | text),
                checkpoint_key=draw(st.none() | text),
            ),
            threat=Threat(norm=draw(st.sampled_from(["Linf", "L2"])), epsilon=draw(st.floats(0, 1, exclude_min=True))),
            train=Train(
                epochs=draw(st.integers(1, 1000)),
                lr=draw(positive),
                weight_decay=draw(positive | st.just(0.0)),
                channels_last=draw(st.booleans() | st.just("auto")),
                ema=draw(shares),
            ),
            constrain=Constrain(weight=draw(positive), stages=draw(stages)),
            prune=Prune(sparsity=draw(st.floats(0, 0.98)), lr=draw(positive), regrow=draw(st.booleans())),
            finetune=Finetune(epochs=draw(epochs), lr=draw(positive)),
            verify=Verify(
                samples=draw(epochs),
                attacks=draw(attacks),
                engine_attacks=draw(attacks | st.just(())),
                measures=draw(st.sampled_from([(), ("smallest-epsilon", "curve")])),
            ),
            export=Export(targets=draw(st.sampled_from([("onnx-cpu",), ("onnx-cuda", "onnx-cpu")]))),
            gates=Gates(
                clean=draw(shares),
                pruning_loss=draw(st.none() | shares),
                engine_loss=draw(st.none() | shares),
                median_kappa=draw(st.none() | positive),
            ),
        )
    except ValidationError:
        assume(False)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(recipe=recipes(), comments=st.booleans())
def test_a_recipe_reads_back_as_it_was_written(tmp_path_factory, recipe, comments):
    file = tmp_path_factory.getbasetemp() / "round-trip.toml"
    file.write_text(to_toml(recipe, comments), "utf-8", newline="\n")
    assert load_recipe(file) == recipe


def test_every_key_is_written_with_its_explanation_and_default():
    lines = to_toml(Recipe(name="x")).splitlines()
    at = lines.index("sparsity = 0.95")
    assert lines[at - 1] == "# share of zeros among all conv and linear weights, met exactly (default: 0.95)"
    assert "lambda = 0.001" in lines
    assert 'checkpoint = "none"' in lines
    assert all(line.startswith("#") or len(line) < 80 for line in lines)


def test_without_comments_only_keys_are_left():
    text = to_toml(Recipe(name="x"), comments=False)
    assert "#" not in text
    assert tomllib.loads(text)["prune"]["sparsity"] == 0.95


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (True, "true"),
        (3, "3"),
        (1e-05, "1e-05"),
        (0.1, "0.1"),
        (None, '"none"'),
        ('a "b"\\\n\x00\x7f猫', r'"a \"b\"\\\n\u0000\u007f猫"'),
        (("a", "b"), '["a", "b"]'),
        ((), "[]"),
    ],
)
def test_values(value, written):
    assert toml_value(value) == written
