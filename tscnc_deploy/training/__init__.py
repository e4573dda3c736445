"""Adversarial training: the TRADES loop that the train, prune and finetune stages share."""
