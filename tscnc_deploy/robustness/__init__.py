"""Robustness evaluation as a library: attacks on models and engines, worst case per image, intervals and gates.

Anything that maps images to logits can be evaluated, with a gradient (`ModelVictim`), with another model's
(`EngineVictim`) or without (`BlackBoxVictim`). Nothing here knows of recipes, runs or the command line.
"""

from tscnc_deploy.robustness.attacks.apgd import APGDCE
from tscnc_deploy.robustness.attacks.base import Attack
from tscnc_deploy.robustness.attacks.fgsm import FGSM
from tscnc_deploy.robustness.attacks.names import parse_attack
from tscnc_deploy.robustness.attacks.pgd import PGD
from tscnc_deploy.robustness.attacks.replay import Replay
from tscnc_deploy.robustness.attacks.square import Square
from tscnc_deploy.robustness.comparison import Comparison, compare
from tscnc_deploy.robustness.evaluation import Evaluation, evaluate
from tscnc_deploy.robustness.gates import Gate, at_least, at_most
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.parity import Parity, compare_logits
from tscnc_deploy.robustness.statistics import (
    Accuracy,
    accuracy,
    clopper_pearson,
    images_to_settle,
    mcnemar_exact,
    tango_upper_bound,
)
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victim import BlackBoxVictim, EngineVictim, ModelVictim, Victim

__all__ = [
    "APGDCE",
    "FGSM",
    "PGD",
    "Accuracy",
    "Attack",
    "BlackBoxVictim",
    "Comparison",
    "EngineVictim",
    "Evaluation",
    "Gate",
    "ModelVictim",
    "Noise",
    "Parity",
    "Replay",
    "Square",
    "Threat",
    "Victim",
    "accuracy",
    "at_least",
    "at_most",
    "clopper_pearson",
    "compare",
    "compare_logits",
    "evaluate",
    "images_to_settle",
    "mcnemar_exact",
    "parse_attack",
    "tango_upper_bound",
]
