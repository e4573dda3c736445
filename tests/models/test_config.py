from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tscnc_deploy.errors import InputError
from tscnc_deploy.models import ModelConfig

CONFIG = ModelConfig("vgg16", 0.5, 7, (3, 4, 5), (0.1, 0.2, 1 / 3), (0.5, 0.25, 0.125))


def test_json_there_and_back():
    assert ModelConfig.from_json(CONFIG.to_json()) == CONFIG


def test_the_form_in_a_file_does_not_change():
    assert json.loads(CONFIG.to_json()) == {
        "arch": "vgg16",
        "width": 0.5,
        "classes": 7,
        "input_shape": [3, 4, 5],
        "mean": [0.1, 0.2, 0.3333333333333333],
        "std": [0.5, 0.25, 0.125],
    }


def test_configs_cost_no_heavy_import():
    program = "import sys; from tscnc_deploy.models.config import ModelConfig; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("1" * 10_000, "is not JSON"),
        ("[]", "must be a JSON object with exactly the keys arch, classes, input_shape, mean, std, width"),
        ('"' + "x" * (1 << 21) + '"', "must be a JSON object"),
        ("{}", "must be a JSON object with exactly the keys"),
    ],
)
def test_texts_that_are_no_config(text, message):
    with pytest.raises(InputError, match=message):
        ModelConfig.from_json(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 1}, "exactly the keys"),
        ({"arch": ["vgg16"]}, r"model.arch = \['vgg16'\] is not"),
        ({"width": "1"}, "model.width = '1' must be a number"),
        ({"width": True}, "model.width = True must be a number"),
        ({"classes": 1e9}, "the number of classes is 1000000000.0"),
        ({"classes": 10**9}, "the number of classes is 1000000000; it must be from 2 to 100000"),
        ({"input_shape": 3}, "input_shape = 3; it must be a list of numbers"),
        ({"input_shape": [3, 4, 10**6]}, "height and width must be from 1 to 4096"),
        ({"mean": [0, 0, 10**400]}, "one finite number for each channel"),
        ({"mean": [0, 0, "0"]}, "one finite number for each channel"),
        ({"std": [1, 1, 1e-40]}, "it must be above 0 in every channel"),
        ({"std": [1, 1, float("inf")]}, "one finite number for each channel"),
    ],
)
def test_values_that_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        ModelConfig.from_json(json.dumps(json.loads(CONFIG.to_json()) | change))
