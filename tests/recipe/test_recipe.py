from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from tscnc_deploy.recipe import (
    ARCHITECTURES,
    DATASETS,
    Card,
    Constrain,
    Data,
    Gates,
    Model,
    Prune,
    Recipe,
    Threat,
    Train,
    Verify,
)


def problem(section, **settings):
    with pytest.raises(ValidationError) as caught:
        section(**settings)
    return str(caught.value.errors()[0]["ctx"]["error"])


def test_defaults_are_the_setting_of_the_literature():
    recipe = Recipe()
    assert recipe.prune.sparsity == 0.95
    assert recipe.train.beta == 6.0
    assert recipe.threat.epsilon == 8 / 255
    assert recipe.constrain.weight == 1e-3


@pytest.mark.parametrize(("norm", "epsilon"), [("Linf", 1.0), ("L2", 0.5), ("L2", 8.0)])
def test_the_norm_bounds_epsilon(norm, epsilon):
    assert Threat(norm=norm, epsilon=epsilon).epsilon == epsilon


def test_an_epsilon_of_l2_is_refused_for_linf():
    assert problem(Threat, norm="Linf", epsilon=1.5).startswith("is not a radius in (0, 1], the range of the pixels")
    assert problem(Threat, norm="L2", epsilon=-0.5).startswith("is not a radius above 0")


def test_every_architecture_and_data_set_is_accepted():
    assert [Model(arch=name).arch for name in ARCHITECTURES] == list(ARCHITECTURES)
    assert [Data(dataset=name).dataset for name in DATASETS] == list(DATASETS)


def test_an_unknown_architecture_gets_a_suggestion():
    assert problem(Model, arch="resnet81").endswith("or PACKAGE.MODULE:FUNCTION; did you mean resnet18?")
    assert problem(Data, dataset="cifar").endswith("; did you mean cifar10?")


@pytest.mark.parametrize("attack", ["fgsm", "pgd-20", "pgd-20x5", "apgd-ce-50", "apgd-ce-100x2", "square-5000"])
def test_attack_names(attack):
    assert Verify(attacks=(attack,)).attacks == (attack,)


@pytest.mark.parametrize(
    "attack", ["", "pgd", "pgd-0", "pgd-020", "pgd20", "pgd-20x0", "square-10x2", "fgsm-1", "pgd-20 ", "PGD-20", "aa"]
)
def test_what_is_no_attack_is_refused(attack):
    assert "is not an attack such as fgsm, pgd-20" in problem(Verify, attacks=(attack,))


def test_arrays_that_name_nothing_or_one_thing_twice_are_refused():
    assert problem(Verify, attacks=()) == "is empty; write at least one"
    assert problem(Verify, attacks=("fgsm", "pgd-20", "fgsm")) == 'contains "fgsm" twice'
    assert Verify(engine_attacks=()).engine_attacks == ()
    assert Verify().measures == ()


@pytest.mark.parametrize("name", [".", "..", "-x", "a/b", "a b", "a\n", "é", "x" * 101])
def test_names_that_would_leave_the_folder_of_runs_are_refused(name):
    assert "is not a name" in problem(Recipe, name=name)


def test_the_word_none_unsets_what_may_be_unset():
    assert Gates(engine_loss="none").engine_loss is None
    assert Model(checkpoint="none").checkpoint is None
    assert Model(checkpoint_key="none").checkpoint_key is None
    with pytest.raises(ValidationError):
        Prune(sparsity="none")


@pytest.mark.parametrize(("sparsity", "floor"), [(0.9, 0.1), (0.7, 0.3), (0.99, 0.01), (0.0, 0.5)])
def test_a_floor_may_take_all_that_the_sparsity_leaves(sparsity, floor):
    assert Recipe(prune=Prune(sparsity=sparsity, floor=floor)).prune.floor == floor


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"prune": Prune(sparsity=0.995)}, "prune.floor = 0.01 keeps more than prune.sparsity = 0.995 allows; "),
        ({"prune": Prune(pattern="2:4", sparsity=0.4)}, 'prune.pattern = "2:4" removes at least half'),
        ({"train": Train(epochs=0)}, "train.epochs = 0 needs model.checkpoint"),
        ({"data": Data(validation=0.0)}, "train.early_stop = true needs validation images"),
        (
            {"model": Model(args={"depth": 3})},
            "model.args are for networks that are not built in",
        ),
        (
            {"model": Model(arch="timm:vgg11", width=0.5)},
            "model.width = 0.5 is for built-in networks; ",
        ),
        ({"model": Model(pretrained=True)}, "model.pretrained = true needs a network of torchvision or timm, but "),
        (
            {"model": Model(arch="net.py:small", pretrained=True)},
            "model.pretrained = true needs a network",
        ),
        (
            {"model": Model(arch="timm:vgg11", pretrained=True, checkpoint="a.pt")},
            "model.pretrained = true and model.checkpoint both say what to begin with",
        ),
    ],
)
def test_contradictions_between_sections_are_refused(sections, message):
    assert problem(Recipe, **sections).startswith(message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum": 0.0}, "train.nesterov = true needs momentum, but train.momentum = 0; "),
        ({"epochs": 3, "clean_epochs": 2, "ramp_epochs": 2}, "train.clean_epochs + train.ramp_epochs = 4 exceeds "),
    ],
)
def test_contradictions_within_training_are_refused(settings, message):
    assert problem(Train, **settings).startswith(message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"criterion": "hydra", "updates": 20},
            'prune.updates = 20 does not apply to prune.criterion = "hydra", which updates its masks after every '
            "step; write prune.updates = 10",
        ),
        (
            {"criterion": "harp", "regrow": False},
            'prune.regrow = false does not apply to prune.criterion = "harp", whose removed weights can always come '
            "back; write prune.regrow = true",
        ),
        (
            {"criterion": "flying-bird", "pattern": "2:4"},
            'prune.pattern = "2:4" does not apply to prune.criterion = "flying-bird", which moves individual weights '
            'anywhere; write prune.pattern = "unstructured"',
        ),
        (
            {"criterion": "magnitude", "score_lr": 1.0},
            'prune.score_lr = 1.0 does not apply to prune.criterion = "magnitude", which learns no scores; '
            "write prune.score_lr = 0.1",
        ),
        (
            {"pattern": "filters"},
            'prune.pattern = "filters" needs prune.regrow = false, as the batch norm of a removed filter has no '
            "statistics to estimate its saliency; write prune.regrow = false",
        ),
        (
            {"pattern": "filters", "regrow": False, "budget": "macs"},
            'prune.pattern = "filters" needs prune.budget = "parameters", as filters are ranked by their weights '
            'alone; write prune.budget = "parameters"',
        ),
        (
            {"criterion": "harp", "pattern": "filters"},
            'prune.pattern = "filters" does not apply to prune.criterion = "harp", which removes individual weights '
            'anywhere; write prune.pattern = "unstructured"',
        ),
    ],
)
def test_a_key_that_says_nothing_to_the_criterion_is_refused(settings, message):
    assert problem(Prune, **settings) == message


def test_keys_that_say_something_to_the_criterion_are_taken():
    assert Prune(criterion="flying-bird", updates=20, floor=0.02).updates == 20
    assert Prune(criterion="harp", score_lr=0.5, floor=0.02).score_lr == 0.5
    assert Prune(criterion="magnitude", regrow=False, pattern="2:4").pattern == "2:4"
    assert Prune(criterion="clean-taylor", regrow=False, pattern="filters").pattern == "filters"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": 0.01}, "and constrain.lambda = 0.01 both set lambda; remove one of them"),
        ({"constraint": "none"}, 'needs a constraint, but constrain.constraint = "none"; write "tscnc", "kaporin" or '),
    ],
)
def test_a_lambda_that_sets_itself_needs_a_constraint_and_no_other_lambda(settings, message):
    assert problem(Constrain, gradient_share=0.1, **settings).startswith(f"constrain.gradient_share = 0.1 {message}")


def test_all_contradictions_are_named_at_once():
    message = problem(Recipe, prune=Prune(sparsity=0.995), data=Data(validation=0.0))
    assert [line.split(" ")[0] for line in message.splitlines()] == ["train.early_stop", "prune.floor"]


def test_reading_a_recipe_needs_no_torch():
    code = "import sys, tscnc_deploy.recipe.file; print([m for m in ('torch', 'onnx', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_licences_are_those_that_model_hubs_know():
    assert Card().license == "unknown"
    assert Card(license="apache-2.0").license == "apache-2.0"
    assert Card(license="other").license == "other"
    page = "is not a licence in https://huggingface.co/docs/hub/repositories-licenses"
    assert problem(Card, license="Apache 2.0") == f"{page}; did you mean apache-2.0?"
    assert problem(Card, license="my own") == f'{page}; write "other" for any other licence'
