from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tscnc_deploy.engines.onnx.differentiable.operators import OPERATORS


def test_every_operator_is_compared_with_onnxruntime():
    """The operators that the tests beside this one have cases for are those that exist."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("test_*.py") if path.stem != Path(__file__).stem)
    tested = [op for name in names for op in import_module(f"{__package__}.{name}").CASES]
    assert sorted(tested) == sorted(OPERATORS)
