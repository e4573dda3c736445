import pytest

from tscnc_deploy.errors import RecipeError
from tscnc_deploy.recipe.sweep import list_sweeps, load_sweep

SWEEP = """
description = "which constraint helps"
recipe = "digits"
seeds = [3, 1]
[set]
model.width = 0.25
[grid]
prune.sparsity = [0.9, 0.95]
[variants.tscnc]
[variants.unconstrained]
constrain.constraint = "none"
"""


@pytest.fixture
def sweep(tmp_path):
    def write(text=SWEEP):
        (tmp_path / "mine.toml").write_text(text)
        return tmp_path / "mine.toml"

    return write


def message(*arguments, **options):
    with pytest.raises(RecipeError) as caught:
        load_sweep(*arguments, **options)
    return str(caught.value)


def test_every_combination_is_a_recipe_seed_by_seed(sweep):
    loaded = load_sweep(sweep())
    assert (loaded.name, loaded.description) == ("mine", "which constraint helps")
    assert list(loaded.recipes) == [
        "tscnc-0.9-seed3",
        "unconstrained-0.9-seed3",
        "tscnc-0.95-seed3",
        "unconstrained-0.95-seed3",
        "tscnc-0.9-seed1",
        "unconstrained-0.9-seed1",
        "tscnc-0.95-seed1",
        "unconstrained-0.95-seed1",
    ]
    recipe = loaded.recipes["unconstrained-0.95-seed1"]
    assert (recipe.name, recipe.seed, recipe.model.width) == ("unconstrained-0.95", 1, 0.25)
    assert (recipe.prune.sparsity, recipe.constrain.constraint) == (0.95, "none")


def test_a_variant_wins_over_the_grid_and_overrides_win_over_both(sweep):
    text = SWEEP + "prune.sparsity = 0.5\nmodel.width = 0.75\n"
    assert load_sweep(sweep(text)).recipes["unconstrained-0.9-seed1"].prune.sparsity == 0.5
    loaded = load_sweep(sweep(text), ["model.width=0.125"], seeds=[7])
    assert {recipe.model.width for recipe in loaded.recipes.values()} == {0.125}
    assert {recipe.seed for recipe in loaded.recipes.values()} == {7}


def test_a_recipe_beside_the_sweep_is_found_from_anywhere(sweep, tmp_path):
    (tmp_path / "base.toml").write_text("[prune]\nsparsity = 0.7\n")
    loaded = load_sweep(sweep('recipe = "base.toml"\nseeds = [0]\n[variants.one]\n'))
    assert loaded.recipes["one-seed0"].prune.sparsity == 0.7


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('seeds = [0]\nrecipe = "digits"', "variants: Field required"),
        ("[variants.a]", "seeds: Field required"),
        ("seeds = []\n[variants.a]", "seeds: List should have at least 1 item"),
        ("seeds = [0]\nsweeps = 1\n[variants.a]", "sweeps: Extra inputs are not permitted"),
        ("seeds = [0]\n[grid]\nprune.sparsity = 0.9\n[variants.a]", "grid.prune.sparsity = 0.9 is not an array"),
        (
            "seeds = [0]\n[variants.a]\nprune.sparsty = 0.9",
            "a-seed0: --set prune.sparsty=0.9: prune.sparsty is not a key",
        ),
        ("seeds = [0]\n[variants.a]\nprune.sparsity = 95", "a-seed0: --set prune.sparsity = 95 is not a share"),
        ("seeds = [0]\n[variants.'a/b']", "variants.a/b"),
        ("seeds = [0", "is not TOML"),
    ],
)
def test_what_is_wrong_is_named(sweep, text, told):
    assert told in message(sweep(text))


def test_an_unknown_sweep_is_told_what_there_is():
    assert "digits-constraints" in message("digits-constraint")
    assert "file not found" in message("none.toml")


def test_every_shipped_sweep_is_valid():
    assert [sweep.name for sweep in list_sweeps() if not sweep.description] == []


def test_networks_in_a_grid_give_names_that_folders_may_have(tmp_path):
    (tmp_path / "mine.toml").write_text(
        'description = "networks"\nrecipe = "digits"\nseeds = [0]\n[variants.a]\n'
        '[grid]\nmodel.arch = ["resnet18", "torchvision:vgg11", "/some/place/net.py:small"]\n'
    )
    assert list(load_sweep(str(tmp_path / "mine.toml")).recipes) == [
        "a-resnet18-seed0", "a-torchvision-vgg11-seed0", "a-net-small-seed0",
    ]  # fmt: skip
