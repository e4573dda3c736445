"""What the argument and the options of `tscnc-deploy verify` mean: the subjects, and the plan of the attack."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tscnc_deploy.errors import InputError, UnavailableError
from tscnc_deploy.text import not_among

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.recipe import Recipe
    from tscnc_deploy.verify import OnnxSource, Source
    from tscnc_deploy.verify.cases import EvalCase
    from tscnc_deploy.verify.plan import Plan

_WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt")
# What only makes sense for a file, and the other way round.
_OF_FILES = ("recipe", "mean", "std", "labels", "twin")
_OF_URLS = ("bundle", "rate", "max_queries")


@dataclass(frozen=True)
class Target:
    """What is verified.

    Attributes:
        recipe: Names threat model, gates and batch size.
        device: "cpu", "cuda", or this process's GPU.
        subjects: What is attacked, one after the other.
        deployed: How a live server compares with its bundle, see `compare_with_bundle`; None for all else.
    """

    recipe: Recipe
    device: str
    subjects: list[EvalCase]
    deployed: dict[str, Any] | None = None

    @property
    def deployed_passed(self) -> bool:
        """Whether a live server, if it is one, answers as its bundle and does not name another."""
        return self.deployed is None or (
            self.deployed["parity"]["passed"] and self.deployed["same_bundle"] is not False
        )

    def plan(self, attacks: tuple[str, ...], seed: int, options: dict[str, Any]) -> Plan:
        """How, by the options of `verify_options`.

        Raises:
            InputError: A value is no number, out of range, or names nothing.
        """
        from tscnc_deploy.robustness import MEASURES, Threat
        from tscnc_deploy.verify import parse_budget, parse_epsilon
        from tscnc_deploy.verify.plan import Plan

        for name in options["measures"]:
            if name not in MEASURES:
                msg = f"--measure {name} {not_among(name, MEASURES)}"
                raise InputError(msg)
        threat = self.recipe.threat
        norm = options["norm"] or threat.norm
        if options["epsilon"] is not None:
            epsilon = parse_epsilon(options["epsilon"], norm)
        elif norm == threat.norm:
            epsilon = threat.epsilon
        else:
            msg = f"--norm {norm}: the recipe's epsilon is a radius in {threat.norm}; give --epsilon too"
            raise InputError(msg)
        budget = parse_budget(options["budget"]) if options["budget"] else None
        masking = options["masking"]
        return Plan(
            threat=Threat(norm=norm, epsilon=epsilon),
            limits={"clean": self.recipe.gates.clean, "robust": self.recipe.gates.robust},
            attacks=attacks,
            seed=seed,
            batch_size=self.recipe.verify.batch_size,
            device=self.device,
            workers=options["workers"],
            backend=options["backend"],
            budget=budget,
            until_decided=options["until_decided"],
            eot=options["eot"],
            masking=budget is None if masking is None else masking,
            measures=tuple(dict.fromkeys(options["measures"])),
            store=options["store"],
        )


def resolve_target(
    path: Path | str, engines: tuple[str, ...], samples: int | None, seed: int, device: str, options: dict[str, Any]
) -> Target:
    """Finds out what the user pointed at.

    Args:
        path: A path, or an address as a text.
        engines: Names of a bundle's engines; empty takes all that run here.
        samples: Number of images.
        seed: Determines which.
        device: "auto", "cpu" or "cuda".
        options: Of `verify_options`, by their names.

    Raises:
        BundleError: A folder that is no bundle, or a damaged one.
        InputError: Neither a bundle, nor an ONNX file, nor weights, nor an address; or options that do not go with it.
        UnavailableError: This machine runs none of a bundle's engines.
    """
    from tscnc_deploy.devices import choose_device

    where = choose_device(device).type
    if where == "cuda" and "LOCAL_RANK" in os.environ:
        where = f"cuda:{os.environ['LOCAL_RANK']}"
    if isinstance(path, str):
        return _remote_target(path, engines, samples, seed, where, options)
    if given := [name for name in _OF_URLS if options.get(name) is not None]:
        msg = f"--{given[0].replace('_', '-')}: {path} is no address of a live server; leave it out"
        raise InputError(msg)
    if path.suffix in (".onnx", *_WEIGHTS) and not path.is_dir():
        if engines:
            msg = f"--engine {engines[0]}: {path} is one file and no bundle; leave out --engine"
            raise InputError(msg)
        return _file_target(path, samples, seed, where, options)
    if path.is_file():
        msg = f"{path}: is no bundle (a folder), no .onnx file and no weights ({', '.join(_WEIGHTS)})"
        raise InputError(msg)
    return _bundle_target(path, engines, samples, seed, where, options)


def _remote_target(
    url: str, engines: tuple[str, ...], samples: int | None, seed: int, device: str, options: dict[str, Any]
) -> Target:
    from tscnc_deploy.cli.common.bundles import open_given
    from tscnc_deploy.verify import BundleSource, RemoteSource
    from tscnc_deploy.verify.cases import evidence_case, test_set_case
    from tscnc_deploy.verify.deployed import compare_with_bundle, engine_of

    refused = (*(["engine"] if engines else []), *(name for name in _OF_FILES[1:] if options[name] is not None))
    if refused:
        msg = f"--{refused[0]}: a live server takes pixels in [0, 1], and its bundle is its twin; leave it out"
        raise InputError(msg)
    source = RemoteSource(url, rate=options["rate"], max_queries=options["max_queries"])
    if options["bundle"] is None:
        recipe = _file_recipe(url, options)
        return Target(recipe, device, [test_set_case(source, recipe, samples, seed, gradient=False)])
    bundle = open_given(options["bundle"])
    own = ("recipe",) if bundle.withheld else ("recipe", "dataset", "data_root")
    if given := [name for name in own if options[name] is not None]:
        msg = f"--{given[0].replace('_', '-')}: the bundle brings its own recipe and images; leave it out"
        raise InputError(msg)
    bundle, recipe, _ = _with_recipe(bundle, options)
    engine = engine_of(source, bundle)
    source = replace(source, twin=BundleSource(bundle.path, twin_of=None if engine == "twin" else engine))
    subject = replace(evidence_case(bundle, engine, recipe, samples, seed), source=source)
    return Target(recipe, device, [subject], compare_with_bundle(source, bundle, subject))


def _bundle_target(
    path: Path, engines: tuple[str, ...], samples: int | None, seed: int, device: str, options: dict[str, Any]
) -> Target:
    from tscnc_deploy.cli.common.bundles import open_given
    from tscnc_deploy.verify import BundleSource
    from tscnc_deploy.verify.cases import evidence_case, test_set_case

    given = [name for name in _OF_FILES if options[name] is not None]
    if given:
        msg = f"--{given[0]}: a bundle brings its own recipe, normalisation, classes and twin; leave it out"
        raise InputError(msg)
    bundle, recipe, elsewhere = _with_recipe(open_given(path), options)
    names = list(dict.fromkeys(engines)) or _runnable(bundle)
    for name in names:
        _open_one(bundle, name)
    subjects = [
        test_set_case(BundleSource(bundle.path, name), recipe, samples, seed, gradient=True)
        if elsewhere
        else evidence_case(bundle, name, recipe, samples, seed)
        for name in names
    ]
    return Target(recipe, device, subjects)


def _with_recipe(bundle: Bundle, options: dict[str, Any]) -> tuple[Bundle, Recipe, bool]:
    """The bundle, its recipe as the options change it, and whether images of a data set replace its evidence.

    Where it withholds its evidence images, a data set that is named completes it instead.
    """
    from tscnc_deploy.verify.withheld import bring_images

    dataset, root, overrides = options["dataset"], options["data_root"], options["overrides"]
    recipe = bundle.load_recipe(overrides, dataset=dataset, data_root=root)
    elsewhere = bool(dataset or root or any(each.startswith("data.") for each in overrides))
    if elsewhere and bundle.withheld:
        return bring_images(bundle, recipe.data), recipe, False
    return bundle, recipe, elsewhere


def _open_one(bundle: Bundle, name: str) -> None:
    """Refuses an unknown engine, and one that does not run here, before any attack."""
    if name != "twin":
        bundle.engine(name)


def _runnable(bundle: Bundle) -> list[str]:
    """Names of the engines that open here.

    Raises:
        UnavailableError: None does.
    """
    names, reasons = [], []
    for name in bundle.engines:
        try:
            bundle.engine(name)
        except UnavailableError as error:
            reasons.append(f"{name}: {error}")
        else:
            names.append(name)
    if not names:
        raise UnavailableError("\n".join(reasons) or f"{bundle.path}: there is no engine in it")
    return names


def _file_target(path: Path, samples: int | None, seed: int, device: str, options: dict[str, Any]) -> Target:
    from tscnc_deploy.verify.cases import test_set_case

    if not path.is_file():
        msg = f"{path}: there is no such file"
        raise InputError(msg)
    recipe = _file_recipe(path, options)
    source = _onnx_source(path, recipe, options) if path.suffix == ".onnx" else _weights(path, recipe, options)
    gradient = path.suffix != ".onnx" or options["twin"] is not None
    return Target(recipe, device, [test_set_case(source, recipe, samples, seed, gradient=gradient)])


def _file_recipe(path: Path | str, options: dict[str, Any]) -> Recipe:
    """The recipe for a file; without one of the user's there are no gates but those of --set."""
    from tscnc_deploy.recipe.file import default_recipe, load_recipe

    recipe, overrides = options["recipe"], list(options["overrides"])
    if recipe is None:
        if options["dataset"] is None:
            msg = f"{path}: on which images? Give --dataset (and --data-root), or --recipe"
            raise InputError(msg)
        recipe = default_recipe(options["dataset"])
        overrides = ["gates.clean=0", "gates.robust=0", *overrides]
    return load_recipe(recipe, overrides, dataset=options["dataset"], data_root=options["data_root"])


def _onnx_source(path: Path, recipe: Recipe, options: dict[str, Any]) -> Source:
    from tscnc_deploy.verify import OnnxSource, order_of, read_names

    mean, std = _normalisation(options)
    source = OnnxSource(path, mean, std)
    if options["labels"] is not None:
        from tscnc_deploy import data

        order = order_of(read_names(options["labels"]), data.load(recipe.data).classes, outputs=source.form().classes)
        source = replace(source, order=order)
    return replace(source, twin=_twin(options["twin"], source, recipe)) if options["twin"] else source


def _twin(path: Path, source: OnnxSource, recipe: Recipe) -> Source:
    """Bare weights are normalised like the ONNX file; the logits are in the same order as that file's."""
    from tscnc_deploy import data
    from tscnc_deploy.verify.sources.checkpoint import checkpoint_source, has_config

    outputs = replace(source, order=None).form().classes
    known = {} if has_config(path) else {"mean": source.mean, "std": source.std}
    return checkpoint_source(path, recipe, data.load(recipe.data), outputs=outputs, order=source.order, **known)


def _weights(path: Path, recipe: Recipe, options: dict[str, Any]) -> Source:
    from tscnc_deploy import data
    from tscnc_deploy.verify import checkpoint_source, order_of, read_names

    if options["twin"] is not None:
        msg = f"--twin: {path} is a PyTorch model itself, with gradients of its own; leave it out"
        raise InputError(msg)
    dataset = data.load(recipe.data)
    names = None if options["labels"] is None else read_names(options["labels"])
    order = None if names is None else order_of(names, dataset.classes)
    mean, std = _normalisation(options)
    outputs = None if names is None else len(names)
    return checkpoint_source(path, recipe, dataset, outputs=outputs, mean=mean, std=std, order=order)


def _normalisation(options: dict[str, Any]) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    from tscnc_deploy.verify import parse_values

    mean, std = options["mean"], options["std"]
    return mean and parse_values(mean, "--mean"), std and parse_values(std, "--std")
