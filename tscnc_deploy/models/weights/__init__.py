"""Weights as people publish them: `pickles` and `read` open a file, `names` fits its tensors to a network."""

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar")
"""Files that may contain weights. All but the first are PyTorch's, whatever their name; .tar is for .pth.tar."""
