from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F


@pytest.fixture(scope="session")
def digits():
    """A small convolutional network trained on noisy digits, and 200 images that it did not see with their labels."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(data.target)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, 10),
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(6):
            for rows in torch.randperm(1500).split(64):
                noisy = images[rows] + 0.15 * torch.randn(len(rows), 1, 8, 8).sign()
                optimizer.zero_grad()
                F.cross_entropy(model(noisy.clamp(0, 1)), labels[rows]).backward()
                optimizer.step()
    return model.eval(), images[1500:1700], labels[1500:1700]
