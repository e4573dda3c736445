from __future__ import annotations

from tests.check.forging import check, outcomes


def test_a_gate_edited_everywhere_is_not_the_users(bundle):
    """Recipe and record agree on low bounds, so only the user's own recipe tells."""
    document = check(bundle, "--recipe", "digits", status=1)
    assert document["policy"] == "--recipe"
    assert "gates: as strict as required" in outcomes(document)
    assert "onnx-cpu: robust accuracy, lower end" in outcomes(document, "failed", "inconclusive")


def test_a_weaker_threat_model_is_noticed(bundle):
    document = check(bundle, "--recipe", "digits", status=1)
    assert "threat model: as strong as required" in outcomes(document)
