"""Stage 0: takes the untrained network through pruning and export, before hours of training.

Anybody's network may have a layer that an exporter or an engine does not know, or a weight that is not what its layer
multiplies with. Both show on random weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tscnc_deploy.arch import parse_arch
from tscnc_deploy.engines.target import Target, load_target
from tscnc_deploy.errors import InputError
from tscnc_deploy.pipeline.stages.base import Context, Stage, new_network, training_data, weight_seed, write_json
from tscnc_deploy.recipe import Recipe

if TYPE_CHECKING:
    from tscnc_deploy.engines.base import Array
    from tscnc_deploy.engines.onnx.structure import Structure
    from tscnc_deploy.models import Classifier

# Building TensorRT engines takes longer than all else together, and may need a GPU; they are built from the same file.
_TRIED = ("onnxruntime", "sparse-cpu")
_IMAGES = 8


class Trial(Stage):
    """Writes network.json: what is pruned and what is not, and how far exported engines agree with the network."""

    name = "trial"

    def settings(self, recipe: Recipe) -> dict[str, Any]:
        return {
            "data": training_data(recipe),
            "arch": parse_arch(recipe.model.arch).public,
            "model": recipe.model.model_dump(exclude={"arch", "checkpoint", "checkpoint_key"}),
            "prune": recipe.prune.model_dump(include={"sparsity", "floor", "pattern"}),
            "targets": [load_target(name).model_dump(mode="json") for name in recipe.export.targets],
            "seed": recipe.seed,
        }

    def run(self, context: Context) -> None:
        import torch

        from tscnc_deploy import data, tscnc
        from tscnc_deploy.engines import can_run

        recipe, prune = context.recipe, context.recipe.prune
        dataset = data.load(recipe.data)
        # The weights that it begins with do not matter here, and may take long to read.
        random = recipe.model_copy(update={"model": recipe.model.model_copy(update={"checkpoint": None})})
        model = new_network(random, dataset).eval()
        masks = tscnc.rank_globally(tscnc.magnitude(model), prune.sparsity, floor=prune.floor, pattern=prune.pattern)
        tscnc.Masks(masks).apply_(model)
        _require_reading(context, model)
        images = dataset.train.batch(torch.arange(min(_IMAGES, len(dataset.train))))[0].numpy()
        graph = context.work / "network.onnx"
        structure = _exported(model, graph)
        require_masks(model, structure)
        require_layers(model, graph)
        agreement = {}
        targets = [load_target(name) for name in recipe.export.targets]
        tried = [target for target in targets if target.engine in _TRIED and can_run(target) is None]
        for done, target in enumerate(tried):
            context.progress.step(done, len(tried), {}, target.name)
            agreement[target.name] = _difference(model, target, graph, context.work / target.name, images)
        write_json(context.out / "network.json", network_facts(model, structure) | {"differences": agreement})


def not_pruned(model: Classifier) -> dict[str, int]:
    """The numbers of parameters that are not pruned, by the kind of module that they belong to, largest first."""
    from tscnc_deploy import tscnc

    kept: dict[str, int] = {}
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}
    for name, parameter in tscnc.unprunable_parameters(model).items():
        owner, _, own = name.rpartition(".")
        key = f"{kinds.get(owner, 'parameter')}.{own}"
        kept[key] = kept.get(key, 0) + parameter.numel()
    return dict(sorted(kept.items(), key=lambda entry: -entry[1]))


def network_facts(model: Classifier, structure: Structure) -> dict[str, Any]:
    """What is pruned, and see `not_pruned`."""
    return {
        "arch": model.config.network.public,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "prunable": structure.prunable,
        "sparsity": structure.sparsity,
        "multiply_adds": structure.multiply_adds,
        "not_pruned": not_pruned(model),
    }


def require_masks(model: Classifier, structure: Structure) -> None:
    """Refuses a network whose exported file has other weights, or other zeros, than the masks.

    Raises:
        InputError: A layer computes with something else than its weight, or a weight is not used; the message names it.
    """
    from tscnc_deploy import tscnc

    stored = {layer.name: layer for layer in structure.layers}
    arch = model.config.network.public
    for name, weight in tscnc.layer_weights(model).items():
        nonzero, layer = int((weight != 0).sum()), stored.pop(name, None)
        if layer is None:
            msg = (
                f"model.arch = {arch!r}: the weight {name} is not in the exported file: its layer is not used, or it "
                "computes with something else than the weight; remove the layer, or bake the weight that it computes"
            )
            raise InputError(msg)
        if layer.nonzero != nonzero:
            msg = (
                f"model.arch = {arch!r}: {name} has {nonzero} weights that are not zero, but {layer.nonzero} in the "
                "exported file: the layer changes its weight in every pass; bake the weight that it computes"
            )
            raise InputError(msg)
    if stored:
        name, layer = next(iter(stored.items()))
        msg = (
            f"model.arch = {arch!r}: the exported file multiplies with {name} {list(layer.shape)}, which is the weight "
            "of no convolution, linear layer or attention, so it cannot be pruned; use torch.nn's layers"
        )
        raise InputError(msg)


def require_layers(model: Classifier, graph: Path) -> None:
    """Refuses a network that multiplies with more than its layers' weights: `check` would fail its bundle.

    Raises:
        InputError: The message names the nodes.
    """
    from tscnc_deploy.engines.onnx.file import read_onnx
    from tscnc_deploy.engines.onnx.hidden import hidden_weights, shown

    hidden = hidden_weights(read_onnx(graph), graph)
    if hidden.values > hidden.limit:
        msg = (
            f"model.arch = {model.config.network.public!r}: {hidden.values} values act as weights outside of "
            f"convolutions, linear layers and attention, so they cannot be pruned: {shown(hidden.found)}; use "
            "torch.nn's layers"
        )
        raise InputError(msg)


def _require_reading(context: Context, model: Classifier) -> None:
    """Refuses a network that is another one when it is made again with its weights, as every later stage does.

    Raises:
        InputError: Something besides parameters and buffers determines what it computes.
    """
    import torch

    from tscnc_deploy import models

    path = context.work / "model.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    models.save_model(model, path)
    again = models.load_model(path, arch=context.recipe.model.arch, seed=weight_seed(context.recipe))
    images = torch.rand(2, *model.config.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        same = torch.equal(model.eval()(images), again(images))
    if not same:
        msg = (
            f"model.arch = {model.config.network.public!r}: made again with the same weights, it computes something "
            "else: keep what it draws at random in parameters or buffers, and draw with torch, numpy or random"
        )
        raise InputError(msg)


def _exported(model: Classifier, graph: Path) -> Structure:
    from tscnc_deploy.engines.onnx.export import export_onnx
    from tscnc_deploy.engines.onnx.structure import recount

    graph.parent.mkdir(parents=True, exist_ok=True)
    export_onnx(model, graph, input_shape=model.config.input_shape)
    return recount(graph)


def _difference(model: Classifier, target: Target, graph: Path, folder: Path, images: Array) -> float:
    """The largest difference of a logit of an engine from the network's, relative to the largest logit."""
    import numpy as np

    from tscnc_deploy.engines import ExportAids, export_engine, open_engine
    from tscnc_deploy.engines.torch_twin import TwinEngine

    shape, classes = model.config.input_shape, model.config.classes
    aids = ExportAids(calibration=images, dense=graph)
    export_engine(model, target, folder, input_shape=shape, aids=aids)
    expected = TwinEngine(model, shape, classes).logits(images)
    found = open_engine(folder, target).logits(images)
    return float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-9))
