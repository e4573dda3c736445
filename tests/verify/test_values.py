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
    ("text", "norm", "epsilon"),
    [
        ("8/255", "Linf", 8 / 255),
        ("0.031", "Linf", 0.031),
        (" 1 ", "Linf", 1.0),
        ("255/255", "Linf", 1.0),
        ("8", "L2", 8.0),
        ("128/255", "L2", 128 / 255),
    ],
)
def test_epsilon(text, norm, epsilon):
    assert parse_epsilon(text, norm) == epsilon


@pytest.mark.parametrize(
    ("text", "norm", "message"),
    [
        ("8", "Linf", "epsilon = 8 is not a radius .* write 8/255 = 0.0313725, not 8"),
        ("0", "Linf", "epsilon = 0 is not a radius"),
        ("-8/255", "Linf", "is not a radius"),
        ("0", "L2", "epsilon = 0 is not a radius above 0"),
        ("-1", "L2", "is not a radius above 0"),
        ("nan", "L2", "--epsilon nan is not a number such as 8/255 or 0.031"),
        ("1e999", "L2", "is not a number"),
        ("0,031", "Linf", "is not a number"),
        ("8/0", "Linf", "is not a number"),
        ("", "Linf", "is not a number"),
        ("0.1", "L1", "norm = 'L1' is not known"),
    ],
)
def test_what_is_no_epsilon(text, norm, message):
    with pytest.raises(InputError, match=message):
        parse_epsilon(text, norm)


def test_the_package_is_imported_without_heavy_libraries():
    heavy = ("torch", "numpy", "onnx", "onnxruntime", "pydantic")
    code = f"import sys, tscnc_deploy.verification; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
