import pytest
import torch
from torch import nn

from tscnc_deploy.data import load
from tscnc_deploy.recipe import Data, Recipe


@pytest.fixture(scope="session")
def digits():
    return load(Data(dataset="digits", train_limit=200, test_limit=50))


@pytest.fixture
def small_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


@pytest.fixture
def recipe():
    return Recipe.model_validate(
        {
            "threat": {"epsilon": 0.1},
            "train": {
                "epochs": 4, "clean_epochs": 1, "ramp_epochs": 1, "batch_size": 32, "optimizer": "adamw", "lr": 2e-3,
                "inner_steps": 2, "inner_step_size": 0.5, "ema": 0.9, "validation_steps": 2,
            },
            "constrain": {"interval": 2},
            "prune": {"epochs": 3, "updates": 4, "saliency_batches": 2, "sparsity": 0.8, "lr": 1e-3},
        }
    )  # fmt: skip
