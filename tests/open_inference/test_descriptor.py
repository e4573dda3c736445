from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tscnc_deploy.open_inference import descriptor, messages

FOLDER = Path(descriptor.__file__).parent


def test_the_binary_form_is_that_of_the_proto_file():
    pytest.importorskip("grpc_tools", reason="needs: pip install grpcio-tools")
    from base64 import b64decode

    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(FOLDER), "--descriptor_set_out=/dev/stdout"]
    written = subprocess.run([*command, "open_inference.proto"], capture_output=True, check=True).stdout
    assert b64decode(descriptor.FILES) == written


def test_the_messages_stand_beside_other_peoples():
    pytest.importorskip("tritonclient.grpc", reason="needs the extra: pip install 'tscnc-deploy[test]'")
    from tritonclient.grpc import service_pb2

    ours = messages.ModelInferRequest(model_name="tiny", id="seven", raw_input_contents=[b"12"])
    ours.inputs.add(name="images", datatype="FP32", shape=[1, 2]).parameters["timeout"].int64_param = 5
    theirs = service_pb2.ModelInferRequest.FromString(ours.SerializeToString())
    assert (theirs.model_name, theirs.id, theirs.raw_input_contents[0]) == ("tiny", "seven", b"12")
    assert theirs.inputs[0].parameters["timeout"].int64_param == 5
    assert messages.ModelInferRequest.FromString(theirs.SerializeToString()) == ours
