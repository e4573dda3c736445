from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.serving.bundles import attacked_evidence, write_served
from tscnc_deploy.bundle import open_bundle
from tscnc_deploy.serving.page.examples import choose_examples

PROOF = attacked_evidence()


def test_examples_are_of_both_kinds_and_never_many(tmp_path):
    many = {name: np.repeat(array, 20, axis=0) for name, array in PROOF.outcomes.items()}
    proof = replace(
        PROOF,
        images=np.repeat(PROOF.images, 20, axis=0),
        labels=np.repeat(PROOF.labels, 20),
        adversarial={"onnx-cpu": np.repeat(PROOF.adversarial["onnx-cpu"], 20, axis=0)},
        outcomes=many,
    )
    chosen = choose_examples(open_bundle(write_served(tmp_path / "many", proof=proof)), "onnx-cpu")
    assert [example.misclassified for example in chosen] == [True] * 12 + [False] * 12
    assert {example.label for example in chosen if not example.misclassified} == {"one"}
