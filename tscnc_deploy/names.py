"""All names that a user can type for a part of a build.

Recipes, help texts, shell completion and registries use these lists. This module imports nothing from this package, so
--help can show the names without loading what they refer to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "vgg16", "wrn28-10", "wrn34-10", "mobilenetv2", "vit-tiny")
"""Built-in networks, see `models.builtin`."""

LIBRARIES = ("torchvision", "timm")
"""Libraries of networks: "torchvision:NAME", see `models.libraries`."""

ARCH_FORMS = ("torchvision:NAME", "timm:NAME", "FILE.py:FUNCTION", "PACKAGE.MODULE:FUNCTION")
"""How a network that is not built in is named."""

DATASETS = ("digits", "cifar10", "cifar100", "svhn", "tiny-imagenet", "imagefolder", "npz")
"""Sources of images, see `data.source`."""

Criterion = Literal["adversarial-taylor", "clean-taylor", "magnitude", "random", "hydra", "harp", "flying-bird"]
CRITERIA: tuple[Criterion, ...] = get_args(Criterion)
"""Criteria for which weights to prune, see `training.criteria`."""

EngineKind = Literal["onnxruntime", "tensorrt", "tensorrt-rtx", "sparse-cpu"]
ENGINE_KINDS: tuple[EngineKind, ...] = get_args(EngineKind)
"""Engine kinds, which run an exported file, see `engines.registry`."""

Norm = Literal["Linf", "L2"]
NORMS: tuple[Norm, ...] = get_args(Norm)
"""How the size of a perturbation is measured."""

Measure = Literal["corruptions", "curve", "smallest-epsilon", "lipschitz", "smoothing"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
"""Measures other than attacks, see `robustness.measures`."""


class AttackName(NamedTuple):
    """The naming scheme of a family of attacks.

    Attributes:
        form: A form such as "pgd-STEPS[xRESTARTS]": capitals stand for numbers, brackets for optional parts.
        usual: A typical name of that form, for messages and help.
    """

    form: str
    usual: str


ATTACKS: Mapping[str, AttackName] = {
    "fgsm": AttackName("fgsm", "fgsm"),
    "pgd": AttackName("pgd-STEPS[xRESTARTS]", "pgd-20"),
    "cw": AttackName("cw-STEPS[xRESTARTS]", "cw-50"),
    "apgd-ce": AttackName("apgd-ce-STEPS[xRESTARTS]", "apgd-ce-50"),
    "apgd-dlr": AttackName("apgd-dlr-STEPS[xRESTARTS]", "apgd-dlr-50"),
    "apgd-t": AttackName("apgd-t-STEPS[xTARGETS]", "apgd-t-50"),
    "bpda": AttackName("bpda-STEPS[xRESTARTS]", "bpda-20"),
    "fab": AttackName("fab-STEPS[xRESTARTS]", "fab-50"),
    "fab-t": AttackName("fab-t-STEPS[xTARGETS]", "fab-t-50"),
    "square": AttackName("square-QUERIES", "square-1000"),
    "hopskipjump": AttackName("hopskipjump-QUERIES", "hopskipjump-2000"),
    "twin-apgd": AttackName("twin-apgd-STEPS[xRESTARTS]", "twin-apgd-50"),
    "gap": AttackName("gap-STEPS", "gap-50"),
}
"""Families of attacks, see `robustness.attacks`."""

ATTACKS_ON_PAIRS = ("twin-apgd", "gap")
"""Families that compare an engine with its twin, and so do not apply to the twin alone."""

# In the order in which a cascade runs them: first those that break the most images for their cost.
ENSEMBLES: Mapping[str, tuple[str, ...]] = {
    # For everyday use, at about a seventh of the cost of the standard ensemble: both losses, and enough gradient-free
    # search to detect masked gradients.
    "fast": ("apgd-ce-50", "apgd-t-30", "square-500"),
    # Croce and Hein, arXiv 2003.01690: one run each, targeted attacks for 9 classes.
    "autoattack-standard": ("apgd-ce-100", "apgd-t-100", "fab-t-100", "square-5000"),
    "autoattack-plus": ("apgd-ce-100x5", "apgd-dlr-100x5", "fab-100x5", "square-5000", "apgd-t-100", "fab-t-100"),
}
"""Names that stand for several attacks."""

TWIN = "twin.onnx"
"""File of the network that engines are exported from, as a dense float32 graph."""
DENSE = "model.dense.onnx"
"""The same bytes in the folder of an exported engine; a bundle has them once, as the twin."""
