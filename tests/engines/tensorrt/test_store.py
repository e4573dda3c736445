from __future__ import annotations

import json

import pytest

from tests.engines.tensorrt.conftest import target
from tscnc_deploy.digests import digest_of_bytes
from tscnc_deploy.engines import can_export, can_run, load_target, open_engine
from tscnc_deploy.engines.tensorrt import library
from tscnc_deploy.errors import InputError, UnavailableError

needs_rtx = pytest.mark.tensorrt_rtx
no_gpu = pytest.mark.skipif(library.gpu_capability() is not None, reason="there is a GPU: the engine would open")


def change_facts(folder, **changes):
    path = folder / "engine.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@needs_rtx
@no_gpu
def test_without_a_gpu_it_says_what_it_was_built_for_and_needs(folder):
    expected = r"model\.engine: built for SM80, SM89 with tensorrt-rtx 1\..*, not run here: needs an NVIDIA GPU"
    with pytest.raises(UnavailableError, match=expected) as refused:
        open_engine(folder)
    assert refused.value.exit_status == 3
    assert "torch finds none" in str(can_run(target()))


@needs_rtx
def test_a_truncated_engine_is_3_and_says_how_much_is_left(folder):
    path = folder / "model.engine"
    whole = path.stat().st_size
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UnavailableError, match=rf"model\.engine: is truncated: 1000 of {whole} bytes"):
        open_engine(folder)


@needs_rtx
@pytest.mark.parametrize("position", [0, 5000, -1])
def test_a_changed_engine_is_2_and_never_deserialized(folder, position):
    data = bytearray((folder / "model.engine").read_bytes())
    data[position] ^= 1
    (folder / "model.engine").write_bytes(data)
    with pytest.raises(InputError, match=r"is not the engine that engine\.json describes: its SHA-256 is") as refused:
        open_engine(folder)
    assert refused.value.exit_status == 2


@needs_rtx
def test_a_foreign_file_is_2_even_with_its_digest(folder):
    foreign = (folder / "model.dense.onnx").read_bytes()
    (folder / "model.engine").write_bytes(foreign)
    change_facts(folder, plan=digest_of_bytes(foreign), plan_bytes=len(foreign))
    with pytest.raises(InputError, match=r"model\.engine: is not an engine of tensorrt-rtx"):
        open_engine(folder)


@needs_rtx
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.engine", r"model\.engine: file not found"),
        ("engine.json", r"engine\.json: file not found"),
    ],
)
def test_a_missing_file_is_named(folder, name, message):
    (folder / name).unlink()
    with pytest.raises(InputError, match=message):
        open_engine(folder)


@needs_rtx
@pytest.mark.parametrize(
    "changes", [{"library": "tensorflow"}, {"plan": "x"}, {"batch": [1, 2]}, {"extra": 1}, {"plan_bytes": -1}]
)
def test_a_damaged_description_is_refused(folder, changes):
    change_facts(folder, **changes)
    with pytest.raises(InputError, match=r"engine\.json: does not describe a TensorRT engine: "):
        open_engine(folder)


@needs_rtx
def test_an_engine_of_the_other_library_is_refused(folder):
    change_facts(folder, library="tensorrt")
    with pytest.raises(InputError, match="describes an engine for tensorrt, but its target is for tensorrt-rtx"):
        open_engine(folder)


@needs_rtx
def test_an_engine_whose_library_is_missing_says_what_it_is_and_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(library._LIBRARIES, "tensorrt-rtx", ("no_such_tensorrt", "tensorrt-rtx", "1.2"))
    library.load.cache_clear()
    expected = r"built for SM80, SM89 with tensorrt-rtx 1\..*, not run here: tensorrt-rtx is not installed; run: pip"
    with pytest.raises(UnavailableError, match=expected):
        open_engine(folder)
    library.load.cache_clear()


def test_a_missing_library_is_named_with_the_command(monkeypatch):
    monkeypatch.setitem(library._LIBRARIES, "tensorrt", ("no_such_tensorrt", "tensorrt", "10.12"))
    library.load.cache_clear()
    expected = "tensorrt is not installed; run: pip install --upgrade 'tscnc-deploy[tensorrt]'"
    assert can_run(load_target("tensorrt-fp16")) == can_export(load_target("tensorrt-fp16")) == expected
    library.load.cache_clear()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("__version__ = '10.9.0'", r"tensorrt 10\.9\.0 is older than 10\.12; run: pip install --upgrade"),
        (
            "raise ImportError('libnvinfer.so.11: cannot open\\nmore')",
            r"does not load \(libnvinfer\.so\.11: cannot open\)",
        ),
    ],
)
def test_a_library_that_does_not_do_is_named_with_the_reason(tmp_path, monkeypatch, text, message):
    name = f"tscnc_fake_tensorrt_{len(text)}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(library._LIBRARIES, "tensorrt", (name, "tensorrt", "10.12"))
    library.load.cache_clear()
    with pytest.raises(UnavailableError, match=message):
        library.load("tensorrt")
    library.load.cache_clear()


@needs_rtx
@no_gpu
def test_an_engine_for_this_machines_gpu_needs_one_to_build():
    assert "no GPU is found" in str(can_export(target(capabilities=())))
    assert can_export(target()) is None
