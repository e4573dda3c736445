"""Resolves a request to the artifacts to attack and the plan of the attack."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tscnc_deploy.errors import InputError, UnavailableError
from tscnc_deploy.models.weights import SUFFIXES as _WEIGHTS
from tscnc_deploy.text import not_among
from tscnc_deploy.verify.artifact import LABELS_ONLY_ATTACKS
from tscnc_deploy.verify.request import VerifyRequest

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.recipe import Recipe
    from tscnc_deploy.verify import CheckpointSource, OnnxSource, Source
    from tscnc_deploy.verify.artifact import Artifact
    from tscnc_deploy.verify.plan import Plan

# Fields of a request that apply only to a file, or to anything but a file.
_OF_ONNX = ("layout", "range", "channels", "input_size", "output", "allow_contrib_operators")
_OF_FILES = ("recipe", "mean", "std", "labels", "twin", *_OF_ONNX)
_OF_URLS = ("bundle", "rate", "max_queries")


@dataclass(frozen=True)
class Resolved:
    """The artifacts to verify, and how.

    Attributes:
        artifacts: The artifacts to attack, one after another.
        plan: The settings.
        deployed: Comparison of a live server with its bundle, see `compare_with_bundle`; None otherwise.
        reading: How a third-party ONNX file is read, and where its gradients come from; None for other artifacts.
    """

    artifacts: list[Artifact]
    plan: Plan
    deployed: dict[str, Any] | None = None
    reading: dict[str, Any] | None = None

    @property
    def deployed_passed(self) -> bool:
        """Whether a live server matches its bundle and does not report another one; true for other artifacts."""
        return self.deployed is None or (
            self.deployed["parity"]["passed"] and self.deployed["same_bundle"] is not False
        )


def resolve(request: VerifyRequest) -> Resolved:
    """Finds the artifacts of a request and decides how to attack them; nothing is attacked yet.

    Raises:
        BundleError: A folder that is not a bundle, or a damaged one.
        InputError: The artifact is not a bundle, an ONNX file, weights or a URL; or there are options that do not
            apply.
        UnavailableError: None of a bundle's engines run on this machine.
    """
    path = request.artifact
    if isinstance(path, str):
        return _resolve_url(path, request)
    if given := _first_given(request, _OF_URLS):
        msg = f"{given}: {path} is not the URL of a live server; leave out {given}"
        raise InputError(msg)
    if path.suffix in (".onnx", *_WEIGHTS) and not path.is_dir():
        if request.engines:
            msg = f"--engine {request.engines[0]}: {path} is not a bundle; leave out --engine"
            raise InputError(msg)
        return _resolve_file(path, request)
    if path.is_file():
        msg = f"{path}: is not a bundle (a folder), an .onnx file or weights ({', '.join(_WEIGHTS)})"
        raise InputError(msg)
    return _resolve_bundle(path, request)


def _first_given(request: VerifyRequest, names: tuple[str, ...]) -> str | None:
    """The option of the first of these fields that is set."""
    return next((f"--{name.replace('_', '-')}" for name in names if getattr(request, name) is not None), None)


def _plan(request: VerifyRequest, recipe: Recipe) -> Plan:
    from tscnc_deploy.devices import choose_device
    from tscnc_deploy.robustness import MEASURES, Threat
    from tscnc_deploy.verify.plan import Plan

    for name in request.measures:
        if name not in MEASURES:
            msg = f"--measure {name} {not_among(name, MEASURES)}"
            raise InputError(msg)
    norm, epsilon = request.norm or recipe.threat.norm, request.epsilon
    if epsilon is None:
        if norm != recipe.threat.norm:
            msg = f"--norm {norm}: the recipe's epsilon is a radius in {recipe.threat.norm}; give --epsilon too"
            raise InputError(msg)
        epsilon = recipe.threat.epsilon
    device = choose_device(request.device).type
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    return Plan(
        threat=Threat(norm=norm, epsilon=epsilon),
        limits={"clean": recipe.gates.clean, "robust": recipe.gates.robust},
        attacks=request.attacks,
        seed=request.seed,
        batch_size=recipe.verify.batch_size,
        device=device,
        workers=request.workers,
        backend=request.backend,
        budget=request.budget,
        until_decided=request.until_decided,
        eot=request.eot,
        masking=request.budget is None if request.masking is None else request.masking,
        measures=tuple(dict.fromkeys(request.measures)),
        store=request.store,
    )


def _resolve_url(url: str, request: VerifyRequest) -> Resolved:
    from tscnc_deploy.bundle.opening import open_given
    from tscnc_deploy.verify import BundleSource, RemoteSource
    from tscnc_deploy.verify.artifact import on_evidence, on_test_images
    from tscnc_deploy.verify.deployed import compare_with_bundle, engine_of

    if refused := "--engine" if request.engines else _first_given(request, _OF_FILES[1:]):
        msg = f"{refused}: a live server takes pixels in [0, 1], and its bundle is its twin; leave out {refused}"
        raise InputError(msg)
    source = RemoteSource(url, rate=request.rate, max_queries=request.max_queries)
    if request.bundle is None:
        recipe = _recipe_of_file(url, request)
        plan = _plan(request, recipe)
        return Resolved([on_test_images(source, recipe, request.samples, request.seed, gradient=False)], plan)
    bundle = open_given(request.bundle)
    own = ("recipe",) if bundle.withheld else ("recipe", "dataset", "data_root")
    if given := _first_given(request, own):
        msg = f"{given}: the bundle has its own recipe and images; leave out {given}"
        raise InputError(msg)
    bundle, recipe, _ = _with_recipe(bundle, request)
    plan = _plan(request, recipe)
    engine = engine_of(source, bundle)
    source = replace(source, twin=BundleSource(bundle.path, twin_of=None if engine == "twin" else engine))
    artifact = replace(on_evidence(bundle, engine, recipe, request.samples, request.seed), source=source)
    return Resolved([artifact], plan, compare_with_bundle(source, bundle, artifact))


def _resolve_bundle(path: Path, request: VerifyRequest) -> Resolved:
    from tscnc_deploy.bundle.opening import open_given
    from tscnc_deploy.verify import BundleSource
    from tscnc_deploy.verify.artifact import on_evidence, on_test_images

    if given := _first_given(request, _OF_FILES):
        msg = f"{given}: a bundle has its own recipe, normalisation, classes and twin; leave out {given}"
        raise InputError(msg)
    bundle, recipe, elsewhere = _with_recipe(open_given(path), request)
    plan = _plan(request, recipe)
    names = list(dict.fromkeys(request.engines)) or _runnable(bundle)
    for name in names:
        _open_one(bundle, name)
    artifacts = [
        on_test_images(BundleSource(bundle.path, name), recipe, request.samples, request.seed, gradient=True)
        if elsewhere
        else on_evidence(bundle, name, recipe, request.samples, request.seed)
        for name in names
    ]
    return Resolved(artifacts, plan)


def _with_recipe(bundle: Bundle, request: VerifyRequest) -> tuple[Bundle, Recipe, bool]:
    """The bundle, its recipe with the request's changes, and whether images of a data set replace its evidence.

    If it withholds its evidence images, a given data set provides them instead.
    """
    from tscnc_deploy.verify.withheld import bring_images

    dataset, root, overrides = request.dataset, request.data_root, request.overrides
    recipe = bundle.load_recipe(overrides, dataset=dataset, data_root=root)
    elsewhere = bool(dataset or root or any(each.startswith("data.") for each in overrides))
    if elsewhere and bundle.withheld:
        return bring_images(bundle, recipe.data), recipe, False
    return bundle, recipe, elsewhere


def _open_one(bundle: Bundle, name: str) -> None:
    """Refuses unknown engines and engines that do not run on this machine, before any attack."""
    if name != "twin":
        bundle.engine(name)


def _runnable(bundle: Bundle) -> list[str]:
    """Names of the engines that can be opened on this machine.

    Raises:
        UnavailableError: There are none.
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
        raise UnavailableError("\n".join(reasons) or f"{bundle.path}: contains no engine")
    return names


def _resolve_file(path: Path, request: VerifyRequest) -> Resolved:
    from tscnc_deploy.verify.artifact import on_test_images

    if not path.is_file():
        msg = f"{path}: file not found"
        raise InputError(msg)
    recipe = _recipe_of_file(path, request)
    plan = _plan(request, recipe)
    if path.suffix == ".onnx":
        return _resolve_onnx(path, recipe, plan, request)
    if given := _first_given(request, _OF_ONNX):
        msg = f"{given}: {path} is not an ONNX file; leave out {given}"
        raise InputError(msg)
    source = _weights(path, recipe, request)
    artifact = on_test_images(source, recipe, request.samples, request.seed, gradient=True)
    return Resolved([artifact], plan, reading={"notes": _normalisation(source, request), "gradients": None})


def _normalisation(source: CheckpointSource, request: VerifyRequest) -> list[str]:
    if source.config is None or request.mean is not None:
        return []
    mean, std = (", ".join(f"{value:.3g}" for value in values) for values in (source.config.mean, source.config.std))
    return [
        f"unless the file has its own, the normalisation is that of the training images: --mean {mean} --std {std}; "
        "--mean 0 --std 1 gives it pixels as they are"
    ]


def _resolve_onnx(path: Path, recipe: Recipe, plan: Plan, request: VerifyRequest) -> Resolved:
    from tscnc_deploy.verify.answers import settled
    from tscnc_deploy.verify.artifact import on_test_images
    from tscnc_deploy.verify.gradients import gradients_of, require_twin

    source = _onnx_source(path, recipe, request)
    artifact = on_test_images(source, recipe, request.samples, request.seed, gradient=source.twin is not None)
    source = settled(source, artifact.images.numpy())
    artifact, adopted = replace(artifact, source=source), source.adopted()
    if source.twin is not None:
        found: dict[str, Any] | None = require_twin(source, artifact.images)
    elif adopted.labels_only:
        found, artifact = None, replace(artifact, attacks=LABELS_ONLY_ATTACKS)
    else:
        few = request.budget is not None
        found = gradients_of(source, artifact.images, plan.device, few=few, processes=plan.workers)
        if found["used"]:
            plan = replace(plan, batch_size=min(plan.batch_size, found["batch"]))
            artifact = replace(artifact, source=replace(source, own_gradient=True), attacks=recipe.verify.attacks)
    return Resolved([artifact], plan, reading={"notes": list(adopted.notes), "gradients": found})


def _recipe_of_file(path: Path | str, request: VerifyRequest) -> Recipe:
    """The recipe for a file; without --recipe, the only gates are those of --set."""
    from tscnc_deploy.recipe.file import default_recipe, load_recipe

    recipe, overrides = request.recipe, list(request.overrides)
    if recipe is None:
        if request.dataset is None:
            msg = f"{path}: no images to attack; give --dataset (and --data-root), or --recipe"
            raise InputError(msg)
        recipe = default_recipe(request.dataset)
        overrides = ["gates.clean=0", "gates.robust=0", *overrides]
    if request.input_size is not None and request.input_size[0] == request.input_size[1]:
        overrides.append(f"data.image_size={request.input_size[0]}")
    return load_recipe(recipe, overrides, dataset=request.dataset, data_root=request.data_root)


def _onnx_source(path: Path, recipe: Recipe, request: VerifyRequest) -> OnnxSource:
    from tscnc_deploy import data
    from tscnc_deploy.engines.onnx.reading import Reading
    from tscnc_deploy.verify import OnnxSource, order_of

    dataset = data.load(recipe.data)
    channels, height, width = dataset.input_shape
    reading = Reading(
        layout=request.layout,
        range=request.range,
        channels=request.channels,
        input_size=request.input_size or (height, width),
        output=request.output,
        image_channels=channels,
        classes=len(dataset.classes),
        contrib=bool(request.allow_contrib_operators),
    )
    source = OnnxSource(path, request.mean, request.std, reading=reading)
    if request.labels is not None:
        order = order_of(request.labels, dataset.classes, outputs=source.form().classes)
        source = replace(source, order=order)
    return replace(source, twin=_twin(request.twin, source, recipe)) if request.twin else source


def _twin(path: Path, source: OnnxSource, recipe: Recipe) -> Source:
    """Opens the twin; plain weights are normalised like the ONNX file and have the same order of logits."""
    from tscnc_deploy import data
    from tscnc_deploy.verify.sources.checkpoint import checkpoint_source, has_config

    outputs = replace(source, order=None).form().classes
    # The twin takes pixels in [0, 1], whatever the range of the file.
    unit = (source.reading and source.reading.range) or 1
    mean, std = ((values and tuple(value / unit for value in values)) for values in (source.mean, source.std))
    known = {} if has_config(path) else {"mean": mean, "std": std}
    return checkpoint_source(path, recipe, data.load(recipe.data), outputs=outputs, order=source.order, **known)


def _weights(path: Path, recipe: Recipe, request: VerifyRequest) -> CheckpointSource:
    from tscnc_deploy import data
    from tscnc_deploy.verify import checkpoint_source, order_of

    if request.twin is not None:
        msg = f"--twin: {path} is itself a PyTorch model with gradients; leave out --twin"
        raise InputError(msg)
    dataset = data.load(recipe.data)
    labels = request.labels
    order = None if labels is None else order_of(labels, dataset.classes)
    outputs = None if labels is None else len(labels)
    return checkpoint_source(path, recipe, dataset, outputs=outputs, mean=request.mean, std=request.std, order=order)
