"""Masks during training: none, frozen, or found by one of the criteria."""

from tscnc_deploy.training.criteria.base import Masked, Sparsifier
from tscnc_deploy.training.criteria.frozen import Frozen
from tscnc_deploy.training.criteria.gradual import GradualPruning
from tscnc_deploy.training.criteria.registry import CRITERIA, pruning

__all__ = ["CRITERIA", "Frozen", "GradualPruning", "Masked", "Sparsifier", "pruning"]
