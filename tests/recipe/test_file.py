# ruff: noqa: E501  (a message on one line is one that can be searched for)
from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tscnc_deploy.engines.target import list_targets
from tscnc_deploy.errors import RecipeError
from tscnc_deploy.names import ARCHITECTURES, DATASETS
from tscnc_deploy.recipe import Recipe
from tscnc_deploy.recipe.file import default_recipe, list_recipes, load_recipe, parse_assignment, recipe_name
from tscnc_deploy.recipe.toml import key_of

KEYS = [
    f"{section}.{key_of(name, inner)}"
    for section, field in Recipe.model_fields.items()
    if hasattr(field.default, "model_fields_set")
    for name, inner in type(field.default).model_fields.items()
]

TARGETS = ", ".join(target.name for target in list_targets())


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """Writes mine.toml into the current folder and returns its name."""
    monkeypatch.chdir(tmp_path)

    def write(text=""):
        (tmp_path / "mine.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return "mine.toml"

    return write


def message(*arguments, **options):
    with pytest.raises(RecipeError) as caught:
        load_recipe(*arguments, **options)
    return str(caught.value)


def test_the_file_gives_the_values_and_the_name(recipe):
    loaded = load_recipe(recipe("seed = 3\n[prune]\nsparsity = 0.5\n[constrain]\nlambda = 2"))
    assert (loaded.name, loaded.seed, loaded.prune.sparsity, loaded.constrain.weight) == ("mine", 3, 0.5, 2.0)


def test_a_name_in_the_file_wins_over_the_files_name(recipe):
    assert load_recipe(recipe('name = "other"')).name == "other"


def test_the_options_win_over_set_and_set_over_the_file(recipe):
    file = recipe("[prune]\nsparsity = 0.1\nepochs = 1\nupdates = 1")
    loaded = load_recipe(file, ["prune.sparsity=0.2", "prune.epochs=2"], sparsity=0.3)
    assert (loaded.prune.sparsity, loaded.prune.epochs, loaded.prune.updates) == (0.3, 2, 1)


def test_every_option_reaches_its_key(recipe):
    loaded = load_recipe(
        recipe(), arch="vgg16", sparsity=0.5, dataset="svhn", data_root="/d", targets=["onnx-cuda"], seed=7
    )
    assert (loaded.model.arch, loaded.prune.sparsity, loaded.data.dataset) == ("vgg16", 0.5, "svhn")
    assert (loaded.data.root, loaded.export.targets, loaded.seed) == ("/d", ("onnx-cuda",), 7)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[prune]\nsparsity = 95", "prune.sparsity = 95 is not a share from 0 up to but not including 1; write 0.95 for 95%"),
        ("[prune]\nsparsity = 1.0", "prune.sparsity = 1.0 is not a share from 0 up to but not including 1; write 0.95 for 95%"),
        ("[prune]\nsparsity = nan", "prune.sparsity = nan is not a share from 0 up to but not including 1; write 0.95 for 95%"),
        ("[prune]\nsparsity = true", "prune.sparsity = true is not a number"),
        ("[prune]\nsparsity = {a = 1}", "prune.sparsity = {...} is not a number"),
        ("[threat]\nepsilon = 8", "threat.epsilon = 8 is not a radius in (0, 1], the range of the pixels; write 0.0313725 for 8/255"),
        ('[threat]\nnorm = "L2"\nepsilon = 0', "threat.epsilon = 0 is not a radius above 0, the L2 length of a perturbation"),
        ('[threat]\nnorm = "L2"\nepsilon = nan', "threat.epsilon = nan is not a radius above 0, the L2 length of a perturbation"),
        ('[threat]\nnorm = "L2"', 'threat.norm = "L2" needs threat.epsilon, as its default is for Linf; write, for example, 0.5'),
        ('[threat]\nnorm = "l2"', 'threat.norm = "l2" is not "Linf" or "L2"; did you mean L2?'),
        ("[train]\nlr = inf", "train.lr = inf is not a finite number"),
        ("[train]\nlr = 0", "train.lr = 0 is not above 0"),
        ('[train]\nlr = "0.1"', 'train.lr = "0.1" is not a number; write it without quotes'),
        ("[train]\nbatch_size = 0", "train.batch_size = 0 is not at least 2"),
        ("[train]\nbatch_size = 128.0", "train.batch_size = 128.0 is not a whole number; write 128"),
        ("[train]\nbatch_size = 3_000_000_000", "train.batch_size = 3000000000 is not below 2147483648"),
        ("[train]\nnorm_momentum = 1.5", "train.norm_momentum = 1.5 is not at most 1"),
        ('[train]\nnesterov = "yes"', 'train.nesterov = "yes" is not true or false'),
        ("[train]\nchannels_last = 1", 'train.channels_last = 1 is not true, false or "auto"'),
        ('[prune]\ncriterion = "magnitud"', 'prune.criterion = "magnitud" is not "adversarial-taylor", "clean-taylor", "magnitude", "random", "hydra", "harp" or "flying-bird"; did you mean magnitude?'),
        ("[model]\ncheckpoint = 5", 'model.checkpoint = 5 is not a string; write "5"'),
        ("[model]\ncheckpoint = 2026-01-31", "model.checkpoint = 2026-01-31 is not a string"),
        ('[verify]\nattacks = "fgsm"', 'verify.attacks = "fgsm" is not an array; write ["fgsm"]'),
        ("[verify]\nattacks = [1]", 'verify.attacks[0] = 1 is not a string; write "1"'),
        ("[verify]\nattacks = []", "verify.attacks = [] is empty; write at least one"),
        ('[verify]\nmeasures = ["curve", "curves"]', 'verify.measures[1] = "curves" is not "corruptions", "curve", "smallest-epsilon", "lipschitz" or "smoothing"; did you mean curve?'),
        ('[verify]\nmeasures = ["curve", "curve"]', 'verify.measures = ["curve", "curve"] contains "curve" twice'),
        ('[constrain]\nstages = ["train", "export"]', 'constrain.stages[1] = "export" is not "train", "prune" or "finetune"'),
        ('[export]\ntargets = ["onnx-cpp"]', 'export.targets[0] = "onnx-cpp" is not TARGETS or the path of a .toml file; did you mean onnx-cpu?'),
        ('[export]\ntargets = ["mine2.toml"]', 'export.targets[0] = "mine2.toml" is not a file'),
        ("[prune]\nsparcity = 1", "prune.sparcity is not a key of a recipe; did you mean prune.sparsity?"),
        ("sparsity = 1", "sparsity is not a key of a recipe; did you mean prune.sparsity?"),
        ("[model]\nlr = 1", "model.lr is not a key of a recipe; did you mean train.lr, prune.lr or finetune.lr?"),
        ("[constrain]\nweight = 1", "constrain.weight is not a key of a recipe; did you mean train.weight_decay?"),
        ("[export]\nzebra = 1", "export.zebra is not a key of a recipe; write export.targets"),
        ("[trian]\nlr = 1", "[trian] is not a section of a recipe; did you mean train?"),
        ("prune = 5", "prune = 5 is not a section; write [prune] and its keys below it"),
        ("[[prune]]\nlr = 1", "prune = [...] is not a section; write [prune] and its keys below it"),
    ],
)  # fmt: skip
def test_a_problem_names_file_key_value_and_what_would_be_right(recipe, text, line):
    assert message(recipe(text)) == f"mine.toml: {line}".replace("TARGETS", TARGETS)


def test_every_problem_has_a_line(recipe):
    text = (
        "seed = -1\n[prune]\nsparsity = 95\nlr = -1\n[trian]\nx = 1\n[data]\nrooot = 'x'\n[verify]\nattacks = ['x', 2]"
    )
    places = [line.split(": ")[1].split(" ")[0] for line in message(recipe(text)).splitlines()]
    assert sorted(places) == [
        "[trian]", "data.rooot", "prune.lr", "prune.sparsity", "seed", "verify.attacks[0]", "verify.attacks[1]",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "ending"),
    [
        (b"[prune", "is not TOML: Expected ']' at the end of a table declaration (at end of document)"),
        (b"[prune]\nlr = = 1", "is not TOML: Invalid value (at line 2, column 6)"),
        (b"seed = 1\nname = '\xff'", "is not UTF-8 text (byte 17); save it as UTF-8"),
    ],
)
def test_what_is_no_toml_is_refused(recipe, content, ending):
    assert message(recipe(content)) == f"mine.toml: {ending}"


@pytest.mark.parametrize("content", [b"x = " + b"[" * 5000, b"seed = " + b"9" * 5000])
def test_toml_made_to_exhaust_the_reader_is_refused(recipe, content):
    assert message(recipe(content)).startswith("mine.toml: is not TOML")


def test_a_byte_order_mark_is_skipped(recipe):
    assert load_recipe(recipe(b"\xef\xbb\xbfseed = 4")).seed == 4


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"sparsity": 95.0}, "--sparsity 95 is not a share from 0 up to but not including 1; write 0.95 for 95%"),
        ({"sparsity": -0.1}, "--sparsity -0.1 is not a share from 0 up to but not including 1; write 0.95 for 95%"),
        ({"sparsity": float("nan")}, "--sparsity nan is not a share from 0 up to but not including 1; write 0.95 for 95%"),
        ({"seed": -1}, "--seed -1 is not at least 0"),
        ({"dataset": "digit"}, "--dataset digit is not digits, cifar10, cifar100, svhn, tiny-imagenet, imagefolder or npz; did you mean digits?"),
        ({"targets": ["onnx-cpu", "onnx-cud"]}, "--target onnx-cud is not TARGETS or the path of a .toml file; did you mean onnx-cuda?"),
        ({"data_root": "\udcff"}, "--data-root \udcff is not valid UTF-8 text"),
        ({"overrides": ["prune.sparsity=95"]}, "--set prune.sparsity = 95 is not a share from 0 up to but not including 1; write 0.95 for 95%"),
        ({"overrides": ["train.lr=fast"]}, '--set train.lr = "fast" is not a number'),
    ],
)  # fmt: skip
def test_a_problem_with_an_option_names_the_option(recipe, options, line):
    assert message(recipe("[prune]\nsparsity = 0.5"), **options) == line.replace("TARGETS", TARGETS)


def test_an_unknown_architecture_gets_a_suggestion(recipe):
    assert message(recipe(), arch="resnet81").startswith("--arch resnet81 is not resnet18, ")
    assert message(recipe(), arch="resnet81").endswith("; did you mean resnet18?")


def test_a_contradiction_names_the_options_that_brought_it_about(recipe):
    expected = "prune.floor = 0.01 keeps more than prune.sparsity = 0.995 allows; write at most prune.floor = 0.005"
    assert message(recipe("[prune]\nsparsity = 0.995")) == f"mine.toml: {expected}"
    assert message(recipe(), sparsity=0.995) == f"mine.toml with --sparsity 0.995: {expected}"


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("prune.sparsity=0.9", 0.9),
        ("prune.criterion=magnitude", "magnitude"),
        (' prune.criterion = "magnitude" ', "magnitude"),
        ("train.nesterov=false", False),
        ("verify.attacks=['fgsm', 'pgd-20']", ["fgsm", "pgd-20"]),
        ("description=2026-01-31", "2026-01-31"),
        ("description=a = b # c", "a = b # c"),
        ("description=1\nseed = 2", "1\nseed = 2"),
        ("model.checkpoint=", ""),
    ],
)
def test_the_value_of_an_assignment_is_toml_or_a_bare_word(assignment, value):
    assert parse_assignment(assignment)[1] == value


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("prune.sparsity", "is not KEY=VALUE; write, for example, --set prune.sparsity=0.9"),
        ("prune=1", "sets a whole section; set one of its keys, such as prune.sparsity"),
        ("prune.sparcity=1", "did you mean prune.sparsity?"),
        ("=1", "is not a key of a recipe"),
        ("verify.attacks=[fgsm]", "[fgsm] is not a TOML value; the shell may have removed its quotes"),
    ],
)
def test_what_is_no_assignment_is_refused(assignment, words):
    with pytest.raises(RecipeError) as caught:
        parse_assignment(assignment)
    assert str(caught.value).startswith(f"--set {assignment}")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent.toml", "absent.toml: file not found; to create a recipe to edit, run: tscnc-deploy init absent.toml"),
        ("cifar01", "--recipe cifar01 is not cifar10, "),
        (".", ". is a folder; give a recipe (cifar10"),
    ],
)
def test_a_recipe_that_is_not_there_is_refused(name, words):
    assert message(name).startswith(words)


def test_a_name_longer_than_a_file_may_have_is_no_file(recipe):
    long = "x" * 5000
    assert message(f"{long}.toml").startswith(f"{long}.toml: file not found")
    assert message(recipe(), targets=[f"{long}.toml"]).endswith(" is not a file")


def test_a_misspelt_recipe_gets_a_suggestion():
    assert message("cifar01").endswith("; did you mean cifar10?")


def test_every_shipped_recipe_is_valid_and_says_what_it_is():
    listed = list_recipes()
    assert "cifar10" in [recipe.name for recipe in listed]
    assert all(recipe.description and recipe.path.is_file() for recipe in listed)


def test_the_cifar10_recipe_is_the_setting_of_the_literature():
    recipe = load_recipe("cifar10")
    assert (recipe.data.dataset, recipe.model.arch, recipe.prune.sparsity) == ("cifar10", "resnet18", 0.95)
    assert recipe.threat.epsilon == pytest.approx(8 / 255, abs=1e-9)
    assert recipe.train.inner_step_size * recipe.threat.epsilon == pytest.approx(2 / 255, abs=1e-9)


@pytest.mark.parametrize(
    ("dataset", "name"), [(None, "digits"), ("cifar10", "cifar10"), ("svhn", "images"), ("imagefolder", "images")]
)
def test_the_recipe_is_chosen_by_the_data_set(dataset, name):
    assert default_recipe(dataset) == name


@pytest.mark.parametrize(("file", "name"), [("a b.toml", "a-b"), ("x/cats.v2.toml", "cats.v2"), ("猫.toml", "recipe")])
def test_names_from_files_are_names(tmp_path, file, name):
    assert recipe_name(tmp_path / file) == name


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.sampled_from(KEYS),
    value=st.one_of(
        st.sampled_from(["true", "-1", "0", "0.5", "2.5", "1e400", "nan", "{a = 1}", "[]", "[1]", '["a"]', "[[1]]"]),
        st.sampled_from(["0x" + "f" * 5000, "9" * 5000, "2026-01-31", '"none"', '"auto"', *ARCHITECTURES, *DATASETS]),
        st.text(max_size=5),
    ),
)
def test_any_value_is_accepted_or_refused_in_plain_words(recipe, key, value):
    file = recipe()
    try:
        load_recipe(file, [f"{key}={value}"])
    except RecipeError as error:
        assert key.split(".")[0] in str(error)
        assert "Input should" not in str(error)
        assert "Value error" not in str(error)


def test_a_bundles_recipe_runs_no_code_unless_it_is_named_anew(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[model]\narch = "net.py:make"\n')
    assert load_recipe(recipe).model.arch == "net.py:make"
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(RecipeError, match="is a bundle's recipe, and names code for its network"):
        load_recipe(recipe)
    assert load_recipe(recipe, arch="mine.py:make").model.arch == "mine.py:make"
    assert load_recipe(recipe, text=recipe.read_text()).model.arch == "net.py:make"
