"""Attacks: each looks, in its own way, for a misclassified point in the ball around every image."""
