"""Robustness beyond attacks at a single epsilon: corruptions, curves, Lipschitz constants, certificates."""
