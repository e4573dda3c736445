from __future__ import annotations

import subprocess
import sys

import pytest

from tscnc_deploy.errors import InputError
from tscnc_deploy.verify import parse_epsilon, parse_values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.49,0.48,0.45", (0.49, 0.48, 0.45)),
        ("0.5", (0.5,)),
        (" 0 , 1e-1 ", (0.0, 0.1)),
        ("1/255", (1 / 255,)),
        ("-0.5,127.5/255", (-0.5, 0.5)),
    ],
)
def test_values(text, values):
    assert parse_values(text, "--mean") == values


@pytest.mark.parametrize("text", ["", "a", "0.5,", "0.5;0.5", "nan", "0.5,inf", "1/0", "1/2/3", "(0.5,0.5)"])
def test_what_are_no_values(text):
    with pytest.raises(InputError, match=r"--std .* is not a number; write one per channel, .* such as 0\.49,0\.48"):
        parse_values(text, "--std")


@pytest.mark.parametrize(
    ("text", "epsilon"),
    [("8/255", 8 / 255), ("0.031", 0.031), (" 1 ", 1.0), ("255/255", 1.0), ("8", 8.0), ("-1", -1.0)],
)
def test_epsilon(text, epsilon):
    assert parse_epsilon(text) == epsilon


@pytest.mark.parametrize("text", ["nan", "1e999", "0,031", "8/0", ""])
def test_what_is_no_epsilon(text):
    with pytest.raises(InputError, match=f"--epsilon {text} is not a number such as 8/255 or 0.031"):
        parse_epsilon(text)


def test_the_package_is_imported_without_heavy_libraries():
    heavy = ("torch", "numpy", "onnx", "onnxruntime", "pydantic")
    code = f"import sys, tscnc_deploy.verify; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
