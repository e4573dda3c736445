import pytest

from tscnc_deploy.digests import digest_of_bytes, digest_of_chunks, digest_of_file, digest_of_parts, digest_of_stream
from tscnc_deploy.errors import InputError

# From FIPS 180-4's examples.
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_bytes_chunks_files_and_streams_of_one_content_have_one_digest(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert digest_of_bytes(b"abc") == ABC
    assert digest_of_chunks([b"a", b"", b"bc"]) == ABC
    assert digest_of_file(tmp_path / "abc") == ABC
    with (tmp_path / "abc").open("rb") as file:
        assert digest_of_stream(file) == ABC


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent: cannot be read: No such file or directory"):
        digest_of_file(tmp_path / "absent")


def test_the_order_of_parts_does_not_matter_and_their_names_do():
    assert digest_of_parts(a=1, b=[2]) == digest_of_parts(b=[2], a=1)
    assert digest_of_parts(a=1) == digest_of_bytes(b'{"a": 1}')
    assert digest_of_parts(a=1) != digest_of_parts(b=1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_of_parts(a=float("nan"))
