from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tscnc_deploy.errors import InputError
from tscnc_deploy.models import load_model, load_weights, save_model


def same_network(first, second) -> bool:
    one, other = first.network.state_dict(), second.network.state_dict()
    return all(one[name].equal(other[name]) for name in one)


def snapshot(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("prefix", ["", "network.", "model.", "module.", "_orig_mod.", "module._orig_mod.model."])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_bare_networks_under_any_prefix(tiny, tmp_path, prefix, suffix):
    source, target = tiny(seed=1), tiny(seed=2)
    path = tmp_path / f"weights{suffix}"
    state = {f"{prefix}{name}": tensor for name, tensor in source.network.state_dict().items()}
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(state, path)
    load_weights(target, path)
    assert same_network(source, target)
    assert target.normalize.mean.flatten().tolist() == pytest.approx([0.3])


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_training_checkpoints(tiny, tmp_path, key):
    source, target = tiny(seed=1), tiny(seed=2)
    path = tmp_path / "epoch.ckpt"
    torch.save({key: source.network.state_dict(), "epoch": 3, "optimizer": {"lr": [0.1]}}, path)
    load_weights(target, path)
    assert same_network(source, target)


def test_a_file_of_this_package_brings_its_normalization(tiny, tmp_path):
    source, target = tiny(seed=1), tiny(seed=2)
    source.normalize.mean.fill_(0.25)
    torch.save(source.state_dict(), tmp_path / "a.pt")
    load_weights(target, tmp_path / "a.pt")
    assert target.normalize.mean.item() == 0.25
    assert target.config.mean == (0.25,)
    save_model(target, tmp_path / "b")
    assert same_network(load_model(tmp_path / "b"), source)


def test_half_precision_and_missing_counters(tiny, tmp_path):
    source, target = tiny(seed=1), tiny(seed=2)
    state = source.network.state_dict()
    halves = {name: tensor.half() for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    torch.save(halves, tmp_path / "a.pth")
    load_weights(target, tmp_path / "a.pth")
    assert target.network.conv1.weight.equal(source.network.conv1.weight.half().float())


def test_torchvisions_own_resnet_fits_but_for_stem_and_head(tiny, tmp_path):
    from torchvision.models import resnet18

    torch.save(resnet18(num_classes=5).state_dict(), tmp_path / "a.pt")
    with pytest.raises(InputError) as error:
        load_weights(tiny(), tmp_path / "a.pt")
    assert "missing" not in str(error.value)
    assert "unexpected" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "is empty; it must contain a state dict"),
        ([torch.zeros(1)], "contains a list; it must contain a state dict, directly or under 'state_dict'"),
        (torch.zeros(1), "contains a Tensor; it must contain a state dict"),
        ({"epoch": 3}, "'epoch' is a int; a state dict must contain tensors by name"),
        ({3: torch.zeros(1)}, "3 is a Tensor; a state dict must contain tensors by name"),
        ({"conv1.weight": torch.zeros(1), "module.conv1.weight": torch.zeros(1)}, "contains conv1.weight twice"),
        ({"fc.weight": torch.zeros(5, 64, dtype=torch.int8)}, "missing: conv1.weight"),
    ],
)
def test_contents_that_are_no_weights(tiny, tmp_path, content, message):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputError, match=message):
        load_weights(tiny(), tmp_path / "a.pt")


def test_another_architecture_changes_nothing(tiny, tmp_path):
    target = tiny("resnet18", seed=2)
    before = snapshot(target)
    torch.save(tiny("resnet34").state_dict(), tmp_path / "a.pt")
    with pytest.raises(InputError) as error:
        load_weights(target, tmp_path / "a.pt")
    assert str(error.value) == (
        f"{tmp_path / 'a.pt'}: the weights do not match model.arch = 'resnet18' with model.width = 0.125, "
        "5 classes and 1 channels; unexpected: layer1.2.conv1.weight, layer1.2.bn1.weight, layer1.2.bn1.bias "
        "and 93 more"
    )
    torch.save(tiny("resnet18", (3, 8, 8)).network.state_dict(), tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"wrong shape: conv1.weight \[8, 3, 3, 3\] instead of \[8, 1, 3, 3\]$"):
        load_weights(target, tmp_path / "a.pt")
    assert all(before[name].equal(tensor) for name, tensor in target.state_dict().items())


def test_bad_values_change_nothing(tiny, tmp_path):
    target = tiny(seed=2)
    before = snapshot(target)
    sound = tiny(seed=1).state_dict()
    for change, message in (
        ({"network.fc.bias": torch.full((5,), float("nan"))}, "contains NaN or infinity in fc.bias"),
        (
            {"network.fc.bias": torch.zeros(5, dtype=torch.int8)},
            "fc.bias has the dtype torch.int8, which does not conv",
        ),
        ({"normalize.std": torch.zeros(1, 1, 1, 1)}, r"a.pt: the normalisation's std is \[0.0\]; it must be above 0"),
    ):
        torch.save(sound | change, tmp_path / "a.pt")
        with pytest.raises(InputError, match=message):
            load_weights(target, tmp_path / "a.pt")
    assert all(before[name].equal(tensor) for name, tensor in target.state_dict().items())


def test_code_in_a_pickle_is_not_run(tiny, tmp_path):
    trace = tmp_path / "was-run"

    class Payload:
        def __reduce__(self):
            return Path.touch, (trace,)

    path = tmp_path / "a.pt"
    for write in (torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))):
        write({"state_dict": Payload()}, path)
        with pytest.raises(
            InputError, match=r"a.pt: is damaged or contains more than tensors, so it is not loaded; save only the"
        ):
            load_weights(tiny(), path)
    assert not trace.exists()


def test_whole_pickled_models_are_refused(tiny, tmp_path):
    torch.save(tiny(), tmp_path / "a.pt")
    with pytest.raises(InputError, match="contains more than tensors"):
        load_weights(tiny(), tmp_path / "a.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_damaged_files(tiny, tmp_path, suffix):
    model, path = tiny(), tmp_path / f"a{suffix}"
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(model.state_dict(), path)
    content = path.read_bytes()
    for damaged in (b"", b"x" * 1000, content[:-1000], content[:50]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=rf"^{path}: (is damaged|cannot be read)"):
            load_weights(model, path)


def test_missing_files_and_unknown_kinds(tiny, tmp_path):
    with pytest.raises(InputError, match=r"a.pt: cannot be read: "):
        load_weights(tiny(), tmp_path / "a.pt")
    with pytest.raises(
        InputError, match=r"a.onnx: model.checkpoint must be a .safetensors file, or one of .pt, .pth, "
    ):
        load_weights(tiny(), tmp_path / "a.onnx")
