from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from tscnc_deploy import open_inference
from tscnc_deploy.errors import UnavailableError
from tscnc_deploy.open_inference import messages

FOLDER = Path(open_inference.__file__).parent


def declared(message):
    """Names and numbers of a message's fields, with those of the messages inside it, in the order of the file."""
    inner = [each for nested in message.nested_type if not nested.options.map_entry for each in declared(nested)]
    return [*inner, *((field.name, field.number) for field in message.field)]


def test_the_compiled_descriptor_is_that_of_the_proto_file():
    """If this fails after a change of the .proto file, compile it: pip install -e ."""
    (file,) = descriptor_pb2.FileDescriptorSet.FromString((FOLDER / "open_inference.binpb").read_bytes()).file
    written = re.findall(r"(\w+) = (\d+);", (FOLDER / "open_inference.proto").read_text())
    assert [each for message in file.message_type for each in declared(message)] == [
        (name, int(number)) for name, number in written
    ]
    assert len(written) == 56
    assert [method.name for method in file.service[0].method] == [
        "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer",
    ]  # fmt: skip


def test_every_field_is_that_of_the_protocol():
    pytest.importorskip("tritonclient.grpc", reason="needs the extra: pip install 'tscnc-deploy[test]'")
    from tritonclient.grpc import service_pb2

    def fields(message):
        found = {(field.name, field.number, field.type, field.label) for field in message.field}
        return found.union(*(fields(nested) for nested in message.nested_type))

    def read(descriptor):
        copy = descriptor_pb2.DescriptorProto()
        descriptor.CopyToProto(copy)
        return fields(copy)

    for name in ("ModelInferRequest", "ModelInferResponse", "ModelMetadataResponse", "ServerMetadataResponse"):
        ours, theirs = (read(getattr(module, name).DESCRIPTOR) for module in (messages, service_pb2))
        assert ours
        assert ours <= theirs


def test_a_checkout_that_was_never_installed_is_told_what_to_run(tmp_path):
    with pytest.raises(UnavailableError, match=r"open_inference\.binpb cannot be read: .*run: pip install -e \."):
        messages._read_pool(tmp_path / "open_inference.binpb")


def test_messages_live_beside_those_of_other_packages():
    pytest.importorskip("tritonclient.grpc", reason="needs the extra: pip install 'tscnc-deploy[test]'")
    from tritonclient.grpc import service_pb2

    ours = messages.ModelInferRequest(model_name="tiny", id="seven", raw_input_contents=[b"12"])
    ours.inputs.add(name="images", datatype="FP32", shape=[1, 2]).parameters["timeout"].int64_param = 5
    theirs = service_pb2.ModelInferRequest.FromString(ours.SerializeToString())
    assert (theirs.model_name, theirs.id, theirs.raw_input_contents[0]) == ("tiny", "seven", b"12")
    assert theirs.inputs[0].parameters["timeout"].int64_param == 5
    assert messages.ModelInferRequest.FromString(theirs.SerializeToString()) == ours
