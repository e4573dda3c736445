"""TSCNC as a library: sparse and condition-number constraints for any `nn.Module`.

Implements "Two Is Better Than One: Transformed Sparse Constraint and Condition Number Constraint" (arXiv 2503.20454):
weights are pruned by how much the adversarial loss would rise without them, while a constraint on the spectrum of
every layer keeps the sparse network well conditioned. Independent of recipes, runs and the command line.
"""

from tscnc_deploy.tscnc.completion import LayerCompletion, complete_2_4
from tscnc_deploy.tscnc.conditioning import LayerCondition, condition, conditions
from tscnc_deploy.tscnc.constraints import Constraint, log_frobenius, log_kaporin
from tscnc_deploy.tscnc.layers import (
    as_matrix,
    exclude_layers,
    layer_weights,
    prunable_weights,
    unprunable_parameters,
    weighted_layers,
)
from tscnc_deploy.tscnc.masks import Masks
from tscnc_deploy.tscnc.patterns import n_of_m_mask
from tscnc_deploy.tscnc.quotas import apportion
from tscnc_deploy.tscnc.ranking import check_budget, least_sparsity, rank_globally
from tscnc_deploy.tscnc.saliency import magnitude, random, taylor
from tscnc_deploy.tscnc.schedules import cubic_sparsity, update_steps

__all__ = [
    "Constraint",
    "LayerCompletion",
    "LayerCondition",
    "Masks",
    "apportion",
    "as_matrix",
    "check_budget",
    "complete_2_4",
    "condition",
    "conditions",
    "cubic_sparsity",
    "exclude_layers",
    "layer_weights",
    "least_sparsity",
    "log_frobenius",
    "log_kaporin",
    "magnitude",
    "n_of_m_mask",
    "prunable_weights",
    "random",
    "rank_globally",
    "taylor",
    "unprunable_parameters",
    "update_steps",
    "weighted_layers",
]
