from __future__ import annotations

import pickle
import resource
import struct
import tarfile
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.models.weights.test_pickles import hostile
from tscnc_deploy.errors import InputError
from tscnc_deploy.models import load_weights
from tscnc_deploy.models.weights.read import Foreign, Stored, open_weights


def archive(path: Path, pickled: bytes, storages: dict[str, bytes] | None = None, **extra: bytes) -> Path:
    """A zip archive as torch.save writes it, around any pickle."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        for key, data in (storages or {}).items():
            file.writestr(f"archive/data/{key}", data)
        for name, data in extra.items():
            file.writestr(f"archive/{name}", data)
    return path


def tensor(shape: bytes, stride: bytes, count: bytes, key: bytes = b"0", offset: bytes = b"I0\n") -> bytes:
    """A pickled state dict with one float32 tensor; numbers and tuples are given as opcodes."""
    storage = b"((S'storage'\nctorch\nFloatStorage\nS'" + key + b"'\nS'cpu'\n" + count + b"tQ"
    return (
        b"\x80\x02}S'fc.bias'\nctorch._utils\n_rebuild_tensor_v2\n" + storage + offset + shape + stride + b"I00\nNtRs."
    )


def test_what_is_in_a_file(tmp_path):
    torch.save(
        {
            "net": {"a": torch.arange(6.0).reshape(2, 3), "n": 3},
            "x": np.float64(1),
            "deep": {"er": {"b": torch.ones(1)}},
        },
        tmp_path / "a.pt",
    )
    with open_weights(tmp_path / "a.pt") as content:
        outermost, net, deep, deeper = content.containers
        assert [container.key for container in content.containers] == ["", "net", "deep", "deep.er"]
        assert [type(entry) for entry in outermost.entries.values()] == [Foreign]
        (stored,) = net.entries.values()
        assert isinstance(stored, Stored)
        assert (stored.shape, stored.dtype) == ((2, 3), torch.float32)
        assert content.read(stored).tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
        assert deep.entries == {}
        assert list(deeper.entries) == ["b"]


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
     torch.uint8, torch.bool, torch.complex64],
)  # fmt: skip
def test_dtypes(tmp_path, dtype, legacy):
    expected = torch.tensor([[1, 0], [0, 1], [1, 1]]).to(dtype).T
    path = tmp_path / "a.pt"
    torch.save({"a": expected, "empty": expected[:0]}, path, _use_new_zipfile_serialization=not legacy)
    with open_weights(path) as content:
        found = {name: content.read(entry) for name, entry in content.containers[0].entries.items()}
    assert found["a"].equal(expected)
    assert (found["empty"].shape, found["empty"].dtype) == ((0, 3), dtype)


@pytest.mark.parametrize(
    "pickled",
    [
        tensor(b"(I5\nt", b"(I1\nt", b"I5\n"),
        tensor(b"(I5\nt", b"(I1\nt", b"I5\n", offset=b"N"),
        tensor(b"(I6\nt", b"(I1\nt", b"I5\n"),
        tensor(b"(I5\nt", b"(I1\nt", b"I5\n", offset=b"I1\n"),
        tensor(b"(I5\nt", b"(I-1\nt", b"I5\n"),
        tensor(b"(I1000000000\nI5\nt", b"(I0\nI1\nt", b"I5\n"),
        tensor(b"(I1000000000000\nt", b"(I1\nt", b"I1000000000000\n"),
        tensor(b"(I5\nI1\nt", b"(I1\nt", b"I5\n"),
        tensor(b"(" + b"I1\n" * 64 + b"t", b"(" + b"I1\n" * 64 + b"t", b"I5\n"),
        tensor(b"(I5\nt", b"(I1\nt", b"I5\n", key=b"../../etc/passwd"),
        tensor(b"(S'5'\nt", b"(I1\nt", b"I5\n"),
    ],
)
def test_sizes_are_compared_with_the_bytes_of_the_file(tmp_path, pickled):
    path = archive(tmp_path / "a.pt", pickled, {"0": struct.pack("<5f", 1, 2, 3, 4, 5)})
    good = b"fc.bias" in pickled and pickled == tensor(b"(I5\nt", b"(I1\nt", b"I5\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if good:
        with open_weights(path) as content:
            assert content.read(content.containers[0].entries["fc.bias"]).tolist() == [1, 2, 3, 4, 5]
    else:
        with pytest.raises(InputError, match=r"a.pt: is damaged: "), open_weights(path):
            pass
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_size_that_a_legacy_file_lacks_is_not_allocated(tmp_path):
    torch.save({"a": torch.zeros(3)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    data = (tmp_path / "a.pt").read_bytes()
    assert data.count(struct.pack("<q", 3) + bytes(12)) == 1
    (tmp_path / "a.pt").write_bytes(
        data.replace(struct.pack("<q", 3) + bytes(12), struct.pack("<q", 1 << 40) + bytes(12))
    )
    with pytest.raises(InputError, match=r"a.pt: is damaged: it ends within a tensor of 4398046511104 bytes$"):
        open_weights(tmp_path / "a.pt").__enter__()


def test_hostile_pickles_in_files_have_no_effect_and_are_refused(tiny, tmp_path):
    folder = tmp_path / "traces"
    folder.mkdir()
    for pickled in hostile(folder).values():
        for data in (pickled, b"\x80\x02}S'state_dict'\n" + pickled.removeprefix(b"\x80\x02")[:-1] + b"s."):
            with pytest.raises(InputError, match=r"a.pt: (contains no tensors by name|is damaged: )"):
                load_weights(tiny(), archive(tmp_path / "a.pt", data))
            legacy = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
            (tmp_path / "b.pt").write_bytes(legacy + data + pickle.dumps([], 2))
            with pytest.raises(InputError, match=r"b.pt: (contains no tensors by name|is damaged: )"):
                load_weights(tiny(), tmp_path / "b.pt")
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_many_names_take_no_quadratic_time_or_memory(tiny, tmp_path):
    names = list(tiny().network.state_dict())
    shared = torch.zeros(1)
    start = time.process_time()
    for content, message in (
        ({f"p{index}.{name}": shared for index in range(500) for name in names}, "do not match"),
        ({f"d{index}": dict.fromkeys(names, shared) for index in range(500)}, "do not match"),
        (
            {f"d{index}": {"x": shared} for index in range(20_000)},
            "is damaged: it has more than 262144 entries in 10000",
        ),
        ({"a" * 2000: shared}, "is damaged: it has a key of more than 1000 characters"),
    ):
        torch.save(content, tmp_path / "a.pt")
        with pytest.raises(InputError, match=message):
            load_weights(tiny(), tmp_path / "a.pt")
    assert time.process_time() - start < 120


def test_a_refused_global_is_named(tiny, tmp_path):
    class Payload:
        def __reduce__(self):
            return Path.touch, (tmp_path / "was-run",)

    torch.save({"state_dict": Payload()}, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"Python objects are not loaded \(\S*getattr\)"):
        load_weights(tiny(), tmp_path / "a.pt")
    assert not (tmp_path / "was-run").exists()


def test_an_archive_with_compressed_or_overlapping_parts(tiny, tmp_path):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", tensor(b"(I5\nt", b"(I1\nt", b"I5\n"))
    with pytest.raises(InputError, match=r"data.pkl is compressed, or has another size than it declares"):
        load_weights(tiny(), path)


def test_an_archive_whose_parts_overlap(tmp_path):
    path = tmp_path / "a.pt"
    numbers = bytes(40_000)
    inner = zipfile.ZipInfo("archive/data/1")
    inner.file_size = inner.compress_size = len(numbers)
    inner.CRC = zlib.crc32(numbers)
    pickled = tensor(b"(I10000\nt", b"(I1\nt", b"I10000\n", key=b"1")
    outer = inner.FileHeader(zip64=False) + numbers
    count = b"I%d\n" % (len(outer) // 4)
    pickled = pickled[:-1] + tensor(b"(I1\nt", b"(I1\nt", count).removeprefix(b"\x80\x02}").replace(
        b"fc.bias", b"other"
    )
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/data/0", outer)
        # The second file lies within the first one.
        inner.header_offset = file.getinfo("archive/data/0").header_offset + 30 + len("archive/data/0")
        file.filelist.append(inner)
        file.NameToInfo[inner.filename] = inner
    with pytest.raises(InputError, match=r"a.pt: is damaged: "), open_weights(path) as content:
        for entry in content.containers[0].entries.values():
            content.read(entry)


def write_npz(path):
    # By its path, numpy would add a suffix.
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda path: archive(path, b"N.", **{"constants.pkl": b""}),
            "is a TorchScript archive, whose code is not run",
        ),
        (
            lambda path: archive(path, b"N.", byteorder=b"big"),
            "has the byte order 'big' instead of this machine's 'little'",
        ),
        (write_npz, "is a zip archive without the file data.pkl"),
        (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "is a pickle that torch.save did not write"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n"), "is damaged: it does not begin like a file of torch.save"),
    ],
)
def test_files_of_other_programs(tmp_path, write, message):
    write(tmp_path / "a.pt")
    with pytest.raises(InputError, match=rf"a.pt: {message}"), open_weights(tmp_path / "a.pt"):
        pass


def test_a_tar_archive_is_named_as_such(tmp_path):
    (tmp_path / "weights").write_bytes(b"x" * 2000)
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        file.add(tmp_path / "weights", "weights")
    with pytest.raises(InputError, match=r"a.tar: is a tar archive; extract it"), open_weights(tmp_path / "a.tar"):
        pass


@pytest.mark.parametrize("legacy", [True, False])
def test_damaged_files_give_one_error_or_the_weights(tmp_path, legacy):
    path = tmp_path / "a.pt"
    content = {"net": {"a": torch.arange(40.0), "b": torch.ones(3, dtype=torch.int64)}, "x": np.float64(1)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    damaged = [whole[: int(end)] for end in generator.integers(0, len(whole), 150)]
    for count in (1, 4) * 400:
        changed = bytearray(whole)
        for place in generator.integers(0, len(whole), count):
            changed[place] = generator.integers(0, 256)
        damaged.append(bytes(changed))
    refused = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            with open_weights(path) as found:
                for container in found.containers:
                    for entry in container.entries.values():
                        if isinstance(entry, Stored):
                            found.read(entry)
        except InputError as error:
            assert str(error).startswith(f"{path}: ")
            assert str(error).isprintable()
            refused += 1
    assert refused > 150
