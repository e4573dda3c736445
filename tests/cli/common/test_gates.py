import pytest

from tscnc_deploy.cli.common.gates import missed_gate


@pytest.mark.parametrize(
    ("name", "value", "limit", "text"),
    [
        ("twin: robust accuracy, lower end", 0.78161, 0.8, "0.78161, at least 0.8 is required"),
        ("onnx-cpu: largest difference of a logit", 0.5, 0.001, "0.5, at most 0.001 is required"),
        ("onnx-cpu: zeros counted in the file", 10_605_039, 10_605_040, "10,605,039, at least 10,605,040 is required"),
        ("onnx-cpu: largest difference of a logit", None, 0.001, "not finite"),
    ],
)
def test_a_missed_gate_has_its_value_and_what_is_required(name, value, limit, text):
    assert missed_gate({"name": name, "value": value, "limit": limit}) == f"{name}: {text}"


def test_the_engine_goes_first():
    gate = {"name": "clean accuracy, lower end", "value": 0.5, "limit": 0.75}
    assert missed_gate(gate, "twin") == "twin: clean accuracy, lower end: 0.5, at least 0.75 is required"
