from __future__ import annotations

import json
import struct

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.utils import parametrize

from tscnc_deploy.errors import InputError
from tscnc_deploy.models import load_model, save_model
from tscnc_deploy.names import ARCHITECTURES


def saved_tensors(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_bit_comes_back(tiny, tmp_path, arch):
    model = tiny(arch)
    save_model(model, tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.config == model.config
    assert not loaded.training
    before, after = model.state_dict(), loaded.state_dict()
    assert list(before) == list(after)
    assert all(before[name].dtype == after[name].dtype and before[name].equal(after[name]) for name in before)
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_equal_models_give_equal_bytes_whatever_their_memory_format(tiny, tmp_path):
    save_model(tiny(), tmp_path / "a")
    save_model(tiny().to(memory_format=torch.channels_last), tmp_path / "b")
    save_model(load_model(tmp_path / "a"), tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_a_loaded_model_does_not_change_with_its_file(tiny, tmp_path):
    path = tmp_path / "m"
    save_model(tiny(seed=0), path)
    model = load_model(path)
    before = saved_tensors(model)
    with path.open("r+b") as file:
        file.seek(-4096, 2)
        file.write(b"\x00" * 4096)
    assert all(before[name].equal(tensor) for name, tensor in model.state_dict().items())


def test_a_model_with_other_tensors_than_its_config_says_is_not_saved(tiny, tmp_path):
    model = tiny()
    parametrize.register_parametrization(model.network.conv1, "weight", torch.nn.Identity())
    with pytest.raises(ValueError, match=r"missing: network.conv1.weight; unexpected: network.conv1.parametrizations"):
        save_model(model, tmp_path / "m")


def rewrite(path, change_tensors=lambda tensors: tensors, metadata=None) -> None:
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata() if metadata is None else metadata
    path.write_bytes(safetensors.torch.save(change_tensors(safetensors.torch.load_file(path)), metadata))


def config_with(model, **changes) -> dict[str, str]:
    return {"config": json.dumps(json.loads(model.config.to_json()) | changes)}


WEIGHT = "network.layer1.0.conv1.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: {n: v for n, v in t.items() if n != WEIGHT},
            f"which describes a resnet18; missing: {WEIGHT}",
        ),
        (lambda t: t | {"extra": torch.zeros(1)}, "unexpected: extra"),
        (lambda t: t | {WEIGHT: torch.zeros(8, 8, 3, 2)}, r"conv1.weight \[8, 8, 3, 2\] instead of \[8, 8, 3, 3\]"),
        (lambda t: t | {WEIGHT: t[WEIGHT].half()}, f"{WEIGHT} has the dtype F16 instead of F32"),
        (lambda t: t | {WEIGHT: t[WEIGHT].to(torch.int32)}, f"{WEIGHT} has the dtype I32 instead of F32"),
        (lambda t: t | {WEIGHT: t[WEIGHT] * float("nan")}, f"contains NaN or infinity in {WEIGHT}"),
        (lambda t: t | {"normalize.std": t["normalize.std"] * 2}, r"normalize.std is \[0.5\], which contradicts"),
    ],
)
def test_tensors_that_do_not_match(tiny, tmp_path, change, message):
    path = tmp_path / "m"
    save_model(tiny(), path)
    rewrite(path, change)
    with pytest.raises(InputError, match=message):
        load_model(path)


def test_configs_that_do_not_match(tiny, tmp_path):
    model, path = tiny(), tmp_path / "m"
    save_model(model, path)
    rewrite(path, metadata={"other": "x"})
    with pytest.raises(InputError, match="m: contains weights but no model config"):
        load_model(path)
    rewrite(path, metadata={"config": "{"})
    with pytest.raises(InputError, match="m: the model's config is not JSON"):
        load_model(path)
    rewrite(path, metadata=config_with(model, arch="resnet34"))
    with pytest.raises(InputError, match=r"a resnet34; missing: network.layer1.2.conv1.weight, .* and \d+ more"):
        load_model(path)
    rewrite(path, metadata=config_with(model, width=16, classes=100_000))
    with pytest.raises(InputError, match=r"wrong shape: network.conv1.weight \[8, 1, 3, 3\] instead of \[1024, 1,"):
        load_model(path)


def test_a_header_that_claims_exabytes(tmp_path):
    path = tmp_path / "m"
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(InputError, match="is not a readable safetensors file"):
        load_model(path)


@pytest.mark.parametrize("content", [b"", b"x", b"\x00" * 100, b"PK\x03\x04" * 50])
def test_files_that_are_no_safetensors(tmp_path, content):
    path = tmp_path / "m"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a readable safetensors file"):
        load_model(path)


def test_missing_files_and_folders(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(InputError, match=r"file not found|is not a regular file"):
            load_model(path)


@pytest.fixture(scope="module")
def sound() -> bytes:
    from tscnc_deploy.models import build

    model = build("resnet18", classes=2, input_shape=(1, 2, 2), mean=[0.5], std=[0.5], width=0.125)
    return safetensors.torch.save(model.state_dict(), {"config": model.config.to_json()})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_header_or_a_cut_file_gives_one_clean_error_or_a_model(sound, tmp_path, data):
    header = 8 + struct.unpack("<Q", sound[:8])[0]
    place = data.draw(st.integers(0, header - 1))
    changed = sound[:place] + bytes([data.draw(st.integers(0, 255))]) + sound[place + 1 :]
    path = tmp_path / "m"
    path.write_bytes(changed[: data.draw(st.sampled_from([len(sound), place, len(sound) - 1]))])
    try:
        load_model(path)
    except InputError as error:
        assert str(error).startswith(str(path))
