from __future__ import annotations

import pytest

from tests.serving.requests import parse
from tscnc_deploy.serving.errors import RequestError


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"id": 7}, "id must be a string"),
        ({"id": "x" * 2000}, "id must be a string"),
        ({"parameters": {"timeout": -1}}, "timeout must be an integer number of microseconds"),
        ({"parameters": {"timeout": "1"}}, "timeout must be an integer number of microseconds"),
        ({"parameters": {"binary_data_output": 1}}, "binary_data_output must be true or false"),
        ({"outputs": [{"name": "probabilities"}]}, "one output, 'logits'"),
        ({"outputs": [{"name": "logits"}] * 2}, "is requested 2 times"),
        ({"outputs": [{"name": "logits", "parameters": {"classification": "3"}}]}, "number of classes"),
        ({"outputs": [{"name": "logits", "parameters": {"binary_data": None}}]}, "binary_data must be true or false"),
    ],
)
def test_bad_parameters_are_rejected(document, words):
    with pytest.raises(RequestError, match=words):
        parse(**document)


def test_what_a_request_may_say():
    request = parse(
        id="seven",
        parameters={"timeout": 1500},
        outputs=[{"name": "logits", "parameters": {"classification": 2, "binary_data": True}}],
    )
    assert (request.id, request.timeout, request.output.top, request.output.binary) == ("seven", 0.0015, 2, True)
