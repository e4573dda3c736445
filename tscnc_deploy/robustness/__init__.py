"""Robustness evaluation as a library: attacks on models and engines, worst case per image, intervals and gates.

Anything that maps images to logits can be evaluated, with a gradient (`ModelVictim`), with another model's
(`EngineVictim`) or without one (`BlackBoxVictim`). Nothing here depends on recipes, runs or the command line.
"""

from tscnc_deploy.names import ENSEMBLES, MEASURES
from tscnc_deploy.robustness.attacks.apgd import APGDCE, APGDDLR, APGDT
from tscnc_deploy.robustness.attacks.base import Attack
from tscnc_deploy.robustness.attacks.fab import FAB, FABT
from tscnc_deploy.robustness.attacks.fgsm import FGSM
from tscnc_deploy.robustness.attacks.gap import Gap
from tscnc_deploy.robustness.attacks.hop_skip_jump import HopSkipJump
from tscnc_deploy.robustness.attacks.names import parse_attack, parse_attacks
from tscnc_deploy.robustness.attacks.pgd import CW, PGD
from tscnc_deploy.robustness.attacks.replay import Replay
from tscnc_deploy.robustness.attacks.square import Square
from tscnc_deploy.robustness.attacks.twin_apgd import TwinAPGD
from tscnc_deploy.robustness.case import CaseResult, EvalCase, Reference, evaluate_case
from tscnc_deploy.robustness.classifier import Classifier
from tscnc_deploy.robustness.eot import EOTVictim
from tscnc_deploy.robustness.evaluation import Evaluation, evaluate
from tscnc_deploy.robustness.gates import at_least, at_most, loses_at_most
from tscnc_deploy.robustness.masking import check_masking
from tscnc_deploy.robustness.measures.corruptions import CORRUPTIONS, CorruptionResult, corrupt, evaluate_corruptions
from tscnc_deploy.robustness.measures.curves import AccuracyCurve, accuracy_curve
from tscnc_deploy.robustness.measures.lipschitz import LocalLipschitz, local_lipschitz
from tscnc_deploy.robustness.measures.registry import measure
from tscnc_deploy.robustness.measures.smallest_epsilon import SmallestEpsilonsResult, smallest_epsilons
from tscnc_deploy.robustness.measures.smoothing import SmoothingResult, certify
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.parity import compare_logits
from tscnc_deploy.robustness.sharding.shards import evaluate_in_shards
from tscnc_deploy.robustness.statistics.comparison import compare
from tscnc_deploy.robustness.statistics.intervals import (
    accuracy,
    clopper_pearson,
    hoeffding_interval,
    images_to_halve,
    images_to_settle,
    mcnemar_exact,
    tango_upper_bound,
)
from tscnc_deploy.robustness.statistics.quantiles import quantiles
from tscnc_deploy.robustness.statistics.sequential import GateTest
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victims import BlackBoxVictim, EngineVictim, ModelVictim, Victim, batched_logits

__all__ = [
    "APGDCE",
    "APGDDLR",
    "APGDT",
    "CORRUPTIONS",
    "CW",
    "ENSEMBLES",
    "FAB",
    "FABT",
    "FGSM",
    "MEASURES",
    "PGD",
    "AccuracyCurve",
    "Attack",
    "BlackBoxVictim",
    "CaseResult",
    "Classifier",
    "CorruptionResult",
    "EOTVictim",
    "EngineVictim",
    "EvalCase",
    "Evaluation",
    "Gap",
    "GateTest",
    "HopSkipJump",
    "LocalLipschitz",
    "ModelVictim",
    "Noise",
    "Reference",
    "Replay",
    "SmallestEpsilonsResult",
    "SmoothingResult",
    "Square",
    "Threat",
    "TwinAPGD",
    "Victim",
    "accuracy",
    "accuracy_curve",
    "at_least",
    "at_most",
    "batched_logits",
    "certify",
    "check_masking",
    "clopper_pearson",
    "compare",
    "compare_logits",
    "corrupt",
    "evaluate",
    "evaluate_case",
    "evaluate_corruptions",
    "evaluate_in_shards",
    "hoeffding_interval",
    "images_to_halve",
    "images_to_settle",
    "local_lipschitz",
    "loses_at_most",
    "mcnemar_exact",
    "measure",
    "parse_attack",
    "parse_attacks",
    "quantiles",
    "smallest_epsilons",
    "tango_upper_bound",
]
