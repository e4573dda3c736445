"""Attacks: each searches for a misclassified point in the ball around every image."""
