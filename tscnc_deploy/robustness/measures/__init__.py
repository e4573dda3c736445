"""Robustness beyond attacks at one epsilon: corruptions, curves, Lipschitz constants, certificates."""
