"""The lists of names, held against what follows them: registries, recipes, help, shell completion, README and docs."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.conftest import invoke
from tscnc_deploy.cli.common.options import complete_arch, complete_attack, complete_dataset
from tscnc_deploy.data.source import _SOURCES
from tscnc_deploy.engines.target import Target, list_targets
from tscnc_deploy.models.builtin import NETWORKS
from tscnc_deploy.names import (
    ARCHITECTURES,
    ATTACKS,
    ATTACKS_ON_PAIRS,
    CRITERIA,
    DATASETS,
    ENGINE_KINDS,
    ENSEMBLES,
    MEASURES,
)
from tscnc_deploy.recipe import Recipe, Verify
from tscnc_deploy.recipe.pruning import Prune
from tscnc_deploy.robustness.attacks.names import FORMS, parse_attack, parse_attacks
from tscnc_deploy.robustness.measures.registry import PASSES
from tscnc_deploy.training.criteria import registry as criteria

ROOT = Path(__file__).parents[1]
PAGES = "\n".join(path.read_text("utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))))


def test_registries_hold_what_the_lists_name():
    assert tuple(NETWORKS) == ARCHITECTURES
    assert tuple(_SOURCES) == DATASETS
    assert tuple(criteria.CRITERIA) == CRITERIA
    assert tuple(PASSES) == MEASURES
    assert tuple(FORMS) == tuple(ATTACKS)


@pytest.mark.parametrize("family", ATTACKS)
def test_the_usual_name_of_an_attack_is_one_for_recipes_and_for_the_registry(family):
    usual = ATTACKS[family].usual
    assert parse_attack(usual).name == usual
    assert Verify(engine_attacks=(usual,)).engine_attacks == (usual,)
    assert usual.startswith(family)


@pytest.mark.parametrize("name", ENSEMBLES)
def test_ensembles_are_made_of_attacks_that_recipes_know(name):
    assert Verify(attacks=(name,)).attacks == (name,)
    assert Verify(attacks=ENSEMBLES[name]).attacks == ENSEMBLES[name]
    assert [attack.name for attack in parse_attacks([name])] == list(ENSEMBLES[name])


@pytest.mark.parametrize(
    "name",
    ["pgd", "pgd-0", "pgd-020", "pgd-1000000", "pgd-20x0", "pgd-20x1000", "square-10000000", "square-10x2", "gap-5x2",
     "fgsm-1", "fgsm-", "PGD-20", "pgd-20x", "fast-1", "apgd-ce", "xfgsm", "fgsmx", "pgd-STEPS", ""],
)  # fmt: skip
def test_other_names_are_no_attacks(name):
    with pytest.raises(ValueError, match="is not an attack such as"):
        Verify(engine_attacks=(name,))


def test_names_at_the_bounds_are_attacks():
    names = ("pgd-999999x999", "apgd-t-1x1", "square-9999999", "hopskipjump-1", "gap-999999", "fgsm")
    assert Verify(engine_attacks=names).engine_attacks == names


@pytest.mark.parametrize("family", ATTACKS_ON_PAIRS)
def test_attacks_on_pairs_are_refused_for_the_twin(family):
    with pytest.raises(ValueError, match=f"verify.attacks contains {ATTACKS[family].usual}, which compares engine and"):
        Recipe(verify=Verify(attacks=(ATTACKS[family].usual,)))


def test_recipes_and_targets_take_every_name():
    for name in ARCHITECTURES:
        assert Recipe.model_validate({"model": {"arch": name}}).model.arch == name
    for name in DATASETS:
        assert Recipe.model_validate({"data": {"dataset": name}}).data.dataset == name
    for name in CRITERIA:
        assert Prune(criterion=name).criterion == name
    for name in ENGINE_KINDS:
        assert Target(name="a", engine=name).engine == name
    assert Verify(measures=MEASURES).measures == MEASURES


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("build", (*ARCHITECTURES, *DATASETS)),
        ("verify", (*DATASETS, *MEASURES, *ENSEMBLES, *(name.usual for name in ATTACKS.values()))),
    ],
)
def test_help_lists_every_name(command, names):
    words = " ".join(invoke(command, "--help").stdout.split()).replace("- ", "-")
    assert [name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", words)] == []


def test_the_keys_of_a_recipe_explain_every_name():
    for section, key, names in (
        ("model", "arch", ARCHITECTURES),
        ("data", "dataset", DATASETS),
        ("verify", "measures", MEASURES),
        # The others of its names say themselves what they rank by.
        ("prune", "criterion", ("adversarial-taylor", "hydra", "harp", "flying-bird")),
    ):
        explained = Recipe.model_fields[section].annotation.model_fields[key].description
        assert [name for name in names if name not in explained] == [], key


def test_shells_complete_every_name():
    assert complete_arch(None, None, "") == [*ARCHITECTURES, "torchvision:", "timm:"]
    assert complete_arch(None, None, "wrn") == ["wrn28-10", "wrn34-10"]
    assert complete_dataset(None, None, "") == list(DATASETS)
    assert complete_dataset(None, None, "cifar") == ["cifar10", "cifar100"]
    assert complete_attack(None, None, "fa") == ["fast", "fab-50", "fab-t-50"]
    assert len(complete_attack(None, None, "")) == len(ATTACKS) + len(ENSEMBLES)


def test_the_shell_is_told_by_the_program():
    from tscnc_deploy.cli import main

    environment = {
        "_TSCNC_DEPLOY_COMPLETE": "bash_complete",
        "COMP_WORDS": "tscnc-deploy build --arch re",
        "COMP_CWORD": "3",
    }
    done = CliRunner().invoke(main, [], prog_name="tscnc-deploy", env=environment)
    assert done.stdout.split() == ["plain,resnet18", "plain,resnet34", "plain,resnet50"]


@pytest.mark.parametrize(
    "names", [ARCHITECTURES, DATASETS, CRITERIA, MEASURES, tuple(ATTACKS)], ids=lambda names: names[0]
)
def test_readme_and_docs_name_all_of_them(names):
    assert [name for name in names if not re.search(rf"`{re.escape(name)}(-\d+)?`", PAGES)] == []


def test_the_tables_of_readme_and_docs_have_a_row_for_each_and_no_other():
    assert _rows(r"\| `data.dataset` \|") == set(DATASETS)
    assert {target.name for target in list_targets()} == _rows(r"\| target \|")


def _rows(heading: str) -> set[str]:
    """What the first column of the one table with this heading names."""
    (table,) = re.findall(rf"^{heading}.*\n\|[-| :]+\n((?:\|.*\n)+)", PAGES, re.MULTILINE)
    found = set()
    for row in table.splitlines():
        first, *others = re.findall(r"`([^`]+)`", row.split("|")[1])
        # "`a-b`, `-c`" stands for a-b and a-c.
        found |= {first, *(first.rpartition("-")[0] + name if name.startswith("-") else name for name in others)}
    return found
