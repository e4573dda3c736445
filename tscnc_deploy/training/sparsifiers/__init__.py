"""How masks live through a training: not at all, frozen, or found by one of the criteria."""

from tscnc_deploy.training.sparsifiers.base import Dense, Masked
from tscnc_deploy.training.sparsifiers.criteria import CRITERIA, pruning
from tscnc_deploy.training.sparsifiers.frozen import Frozen
from tscnc_deploy.training.sparsifiers.growing import Growing

__all__ = ["CRITERIA", "Dense", "Frozen", "Growing", "Masked", "pruning"]
