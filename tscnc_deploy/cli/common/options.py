"""The options that select and change a recipe, shared by the commands that build."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click
from click.shell_completion import CompletionItem

from tscnc_deploy.names import ARCH_FORMS, ARCHITECTURES, ATTACKS, DATASETS, ENSEMBLES, LIBRARIES
from tscnc_deploy.text import any_of
from tscnc_deploy.threads import MOST, choose_waiting, configure

if TYPE_CHECKING:
    from tscnc_deploy.recipe import Recipe

Command = TypeVar("Command", bound=Callable[..., Any])


def complete_recipe(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The built-in recipes that begin with the incomplete word, else files."""
    return _names_or_files(_stems("pipelines"), incomplete)


def complete_target(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The built-in targets that begin with the incomplete word, else files."""
    return _names_or_files(_stems("export"), incomplete)


def complete_arch(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The built-in networks and the libraries that begin with the incomplete word."""
    known = (*ARCHITECTURES, *(f"{library}:" for library in LIBRARIES))
    return [name for name in known if name.startswith(incomplete)]


def complete_dataset(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The data sets that begin with the incomplete word."""
    return [name for name in DATASETS if name.startswith(incomplete)]


def complete_attack(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The ensembles and one name per family of attacks that begin with the incomplete word."""
    names = [*ENSEMBLES, *(name.usual for name in ATTACKS.values())]
    return [name for name in names if name.startswith(incomplete)]


_RECIPE_OPTIONS = (
    click.option(
        "--recipe",
        metavar="NAME|FILE",
        shell_complete=complete_recipe,
        help="What to build: a built-in recipe, see `tscnc-deploy recipes`, or your own TOML file, see "
        "`tscnc-deploy init`.  [default: digits; with --dataset the recipe of that name, else images]",
    ),
    click.option(
        "--arch",
        metavar="NAME",
        shell_complete=complete_arch,
        help=f"Network: {any_of((*ARCHITECTURES, *ARCH_FORMS))}.  [default: the recipe's model.arch]",
    ),
    click.option(
        "--sparsity",
        metavar="SHARE",
        type=float,
        help="Share of zeros among the weights of convolutions and linear layers, from 0 to below 1, such as 0.95.  "
        "[default: the recipe's prune.sparsity]",
    ),
    click.option(
        "--dataset",
        metavar="NAME",
        shell_complete=complete_dataset,
        help=f"Images: {any_of(DATASETS)}.  [default: the recipe's data.dataset]",
    ),
    click.option(
        "--data-root",
        metavar="DIR",
        type=click.Path(),
        help="Folder of the images, or the .npz file; not needed for digits.  [default: the recipe's data.root]",
    ),
    click.option(
        "--target",
        "targets",
        metavar="NAME|FILE",
        multiple=True,
        shell_complete=complete_target,
        help="Engine to export, see `tscnc-deploy targets`; may be repeated.  [default: the recipe's export.targets]",
    ),
    click.option(
        "--seed",
        metavar="N",
        type=int,
        help="Seed of all randomness, from 0 to 2147483647.  [default: the recipe's seed]",
    ),
    click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        help="Change any key of the recipe, such as --set train.epochs=5 or --set prune.criterion=magnitude; may be "
        "repeated. The options above take precedence.",
    ),
)


def recipe_options(command: Command) -> Command:
    """Adds the options whose values `recipe_from_options` takes, under the names of its parameters."""
    return add_options(_RECIPE_OPTIONS, command)


def add_options(options: Sequence[Callable[[Command], Command]], command: Command) -> Command:
    """Adds options in the order in which --help lists them."""
    for option in reversed(options):
        command = option(command)
    return command


def device_option(command: Command) -> Command:
    """Adds --device, passed to the command as `device`: "auto", "cpu" or "cuda"."""
    return click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="auto",
        show_default=True,
        help="Device to compute on; auto uses a GPU if torch finds one.",
    )(command)


def threads_option(command: Command) -> Command:
    """Adds --threads, which holds for everything that the command computes; not passed to it. See `threads.configure`.

    The program has called `configure` already; here what was asked for takes its place, before torch is imported. How
    the threads wait is chosen here too, for the commands that compute long.
    """

    def use(context: click.Context, parameter: click.Parameter, value: int | None) -> None:
        if value is not None:
            configure(value)
        if not context.resilient_parsing:
            choose_waiting()

    return click.option(
        "--threads",
        type=click.IntRange(1, MOST),
        metavar="N",
        expose_value=False,
        is_eager=True,
        callback=use,
        help="CPU threads of training, attacks and engines, also TSCNC_THREADS.  [default: OMP_NUM_THREADS, else the "
        "cores that this process may use]",
    )(command)


def recipe_from_options(
    *,
    recipe: str | None,
    arch: str | None,
    sparsity: float | None,
    dataset: str | None,
    data_root: str | None,
    targets: Sequence[str],
    seed: int | None,
    overrides: Sequence[str],
) -> Recipe:
    """The recipe that the options of `recipe_options` select; see `load_recipe` for their precedence.

    Raises:
        RecipeError: The recipe cannot be read, or it or the options are invalid.
    """
    from tscnc_deploy.recipe.file import default_recipe, load_recipe, parse_assignment

    if recipe is None:
        set_by_key = dict(map(parse_assignment, overrides)).get("data.dataset")
        recipe = default_recipe(dataset or (set_by_key if isinstance(set_by_key, str) else None))
    return load_recipe(
        recipe,
        overrides,
        arch=arch,
        sparsity=sparsity,
        dataset=dataset,
        data_root=data_root,
        targets=targets,
        seed=seed,
    )


def _stems(name: Literal["pipelines", "export"]) -> list[str]:
    from tscnc_deploy.resources import folder

    return sorted(path.stem for path in folder(name).glob("*.toml"))


def _names_or_files(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]
