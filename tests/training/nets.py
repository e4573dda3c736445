import torch
from torch import nn


def linear():
    """Logits x0 - x1 + 2 x2 and 0 of an image of four pixels."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, -1, 2, 0], [0.0, 0, 0, 0]]))
    return model
