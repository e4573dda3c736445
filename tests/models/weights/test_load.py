from __future__ import annotations

import argparse
import logging
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from tscnc_deploy.errors import InputError
from tscnc_deploy.models import load_model, load_weights, save_model


def saved(path: Path, content: object, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def prefixed(state, prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def same_network(first, second) -> bool:
    one, other = first.network.state_dict(), second.network.state_dict()
    return all(one[name].equal(other[name]) for name in one)


def snapshot(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    "prefix",
    [
        "", "network.", "model.", "module.", "_orig_mod.", "module._orig_mod.", "module._orig_mod.model.", "backbone.",
        "net.", "1.", "attacker.model.", "anything.at.all.",
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_bare_networks_under_any_prefix(tiny, tmp_path, prefix, suffix):
    source, target = tiny(seed=1), tiny(seed=2)
    path = tmp_path / f"weights{suffix}"
    state = {f"{prefix}{name}": tensor for name, tensor in source.network.state_dict().items()}
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(state, path)
    load_weights(target, path)
    assert same_network(source, target)
    assert target.normalize.mean.flatten().tolist() == pytest.approx([0.3])


@pytest.mark.parametrize(
    "key",
    [
        "net", "state_dict", "model", "model_state_dict", "ema", "model_ema", "state_dict_ema", "params", "weights",
        "checkpoint.model", "state.params",
    ],
)  # fmt: skip
def test_training_checkpoints_with_their_python_objects(tiny, tmp_path, key):
    source, target = tiny(seed=1), tiny(seed=2)
    optimizer = torch.optim.SGD(source.parameters(), lr=0.1, momentum=0.9)
    source(torch.rand(2, 1, 8, 8)).sum().backward()
    optimizer.step()
    content = source.network.state_dict()
    for part in reversed(key.split(".")):
        content = {part: content}
    content |= {
        "epoch": 3,
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=0.1, layers=[1, 2]),
        "acc": np.float64(0.5),
        "dtype": np.dtype("float32"),
        "curve": np.arange(3.0),
        "history": defaultdict(list, loss=[0.5]),
        "path": Path("runs"),
        "where": torch.device("cpu"),
        "seen": {1, 2},
    }
    assert load_weights(target, saved(tmp_path / "epoch.pth.tar", content)) == key
    assert same_network(source, target)
    assert load_weights(target, saved(tmp_path / "old.pth.tar", content, legacy=True)) == key
    assert same_network(source, target)


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.ckpt", "a.bin", "a.tar", "a.pth.tar"])
@pytest.mark.parametrize("legacy", [True, False])
def test_any_name_and_both_forms_of_torch_save(tiny, tmp_path, name, legacy):
    source, target = tiny(seed=1), tiny(seed=2)
    load_weights(target, saved(tmp_path / name, source.network.state_dict(), legacy))
    assert same_network(source, target)


def test_values_arrive_as_they_were_saved(tiny, tmp_path):
    state = tiny().network.state_dict()
    state["fc.bias"] = torch.tensor([1.0, -2.0, 0.5, 3.25, -0.125])
    # Views of one storage, transposed and from its middle.
    state["fc.weight"] = torch.arange(2 * 64 * 5.0).reshape(2, 64, 5)[1].T
    for legacy in (False, True):
        target = tiny(seed=2)
        load_weights(target, saved(tmp_path / "a.pt", state, legacy))
        assert target.network.fc.bias.tolist() == [1.0, -2.0, 0.5, 3.25, -0.125]
        assert target.network.fc.weight[:2, :3].tolist() == [[320.0, 325.0, 330.0], [321.0, 326.0, 331.0]]


def test_parameters_and_tensors_with_attributes(tiny, tmp_path):
    source, target = tiny(seed=1), tiny(seed=2)
    state = dict(source.network.named_parameters()) | dict(source.network.named_buffers())
    state["fc.bias"].note = "kept by torch.save"
    load_weights(target, saved(tmp_path / "a.pt", state))
    assert same_network(source, target)


def test_the_robustness_librarys_attacker_model_with_its_normalisation(tiny, tmp_path):
    source, target = tiny(shape=(3, 8, 8), seed=1), tiny(shape=(3, 8, 8), seed=2)
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2023, 0.1994, 0.2010])
    state = OrderedDict()
    for parent, normalizer in (("module.", "normalizer"), ("module.attacker.", "normalize")):
        state[f"{parent}{normalizer}.new_mean"] = mean.clone()[..., None, None]
        state[f"{parent}{normalizer}.new_std"] = std.clone()[..., None, None]
        # Copied, as .cpu() does: equal, but no longer the same storage.
        state |= {f"{parent}model.{k}": v.clone() for k, v in source.network.state_dict().items()}
    content = {"model": state, "epoch": 105, "schedule": None, "amp": None}
    assert load_weights(target, saved(tmp_path / "cifar_linf_8.pt", content)) == "model.module.model"
    assert same_network(source, target)
    assert target.config.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=1e-7)
    assert target.config.std == pytest.approx((0.2023, 0.1994, 0.2010), abs=1e-7)
    source.normalize.load_state_dict({"mean": mean.reshape(1, 3, 1, 1), "std": std.reshape(1, 3, 1, 1)})
    images = torch.rand(4, 3, 8, 8)
    assert target(images).equal(source(images))


@pytest.mark.parametrize(
    ("mean", "std", "prefix"),
    [
        ("0.mean", "0.std", "1."),
        ("mu", "sigma", ""),
        ("normalize.mean", "normalize.std", "model."),
        ("module.normalizer.mean", "module.normalizer.std", "module.net."),
        ("normalizer.new_mean", "normalizer.new_std", ""),
    ],
)
def test_a_normalisation_in_the_file_is_taken_over(tiny, tmp_path, mean, std, prefix):
    source, target = tiny(shape=(3, 8, 8), seed=1), tiny(shape=(3, 8, 8), seed=2)
    state = prefixed(source.network.state_dict(), prefix)
    state |= {mean: torch.tensor([0.5, 0.25, 0.125]).reshape(1, 3, 1, 1), std: torch.tensor([0.5, 0.5, 0.25])}
    load_weights(target, saved(tmp_path / "a.pt", {"state_dict": state}))
    assert (target.config.mean, target.config.std) == ((0.5, 0.25, 0.125), (0.5, 0.5, 0.25))
    assert target.normalize.mean.flatten().tolist() == [0.5, 0.25, 0.125]
    assert same_network(source, target)
    save_model(target, tmp_path / "b")
    assert load_model(tmp_path / "b").config == target.config


def test_a_normalisation_beside_the_state_dict_and_for_all_channels(tiny, tmp_path):
    source, target = tiny(shape=(3, 8, 8), seed=1), tiny(shape=(3, 8, 8), seed=2)
    content = {"net": source.network.state_dict(), "mean": torch.tensor(0.5), "std": torch.tensor(0.25)}
    load_weights(target, saved(tmp_path / "a.pt", content))
    assert (target.config.mean, target.config.std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"mean": torch.tensor([125.3]), "std": torch.tensor([63.0])}, r"mean is \[125.3.*divide mean and std by 255"),
        ({"mean": torch.tensor([0.5, 0.5]), "std": torch.tensor([0.5, 0.5])}, "mean is .* for 1 channels"),
        ({"mean": torch.tensor([0.5])}, "unexpected: mean"),
        (
            {
                "a.mean": torch.tensor([0.5]),
                "a.std": torch.ones(1),
                "b.mu": torch.tensor([0.4]),
                "b.sigma": torch.ones(1),
            },
            "contains several normalisations: a.mean, b.mu",
        ),
    ],
)
def test_normalisations_that_cannot_be_taken_over(tiny, tmp_path, extra, message):
    target = tiny(seed=2)
    before = snapshot(target)
    with pytest.raises(InputError, match=rf"a.pt: .*{message}"):
        load_weights(target, saved(tmp_path / "a.pt", tiny(seed=1).network.state_dict() | extra))
    assert all(before[name].equal(tensor) for name, tensor in target.state_dict().items())


class KuangliuBlock(torch.nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        nn = torch.nn
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(out + self.shortcut(x))


class KuangliuResNet(torch.nn.Module):
    """pytorch-cifar's ResNet18, an eighth as wide."""

    def __init__(self, channels, classes):
        super().__init__()
        nn = torch.nn
        self.conv1, self.bn1 = nn.Conv2d(channels, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(KuangliuBlock(8, 8, 1), KuangliuBlock(8, 8, 1))
        self.layer2 = nn.Sequential(KuangliuBlock(8, 16, 2), KuangliuBlock(16, 16, 1))
        self.layer3 = nn.Sequential(KuangliuBlock(16, 32, 2), KuangliuBlock(32, 32, 1))
        self.layer4 = nn.Sequential(KuangliuBlock(32, 64, 2), KuangliuBlock(64, 64, 1))
        self.linear = nn.Linear(64, classes)

    def forward(self, x):
        x = self.layer4(self.layer3(self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x)))))))
        return self.linear(torch.nn.functional.avg_pool2d(x, 4).flatten(1))


def test_kuanglius_resnet_gives_its_own_logits(tiny, tmp_path):
    theirs = KuangliuResNet(3, 5)
    theirs(torch.rand(8, 3, 32, 32))
    theirs.eval()
    content = {"net": torch.nn.DataParallel(theirs).state_dict(), "acc": 95.5, "epoch": 199}
    target = tiny(shape=(3, 32, 32), seed=2)
    assert load_weights(target, saved(tmp_path / "ckpt.pth", content)) == "net.module"
    images = torch.rand(4, 3, 32, 32)
    expected = theirs((images - target.normalize.mean) / target.normalize.std)
    assert torch.allclose(target(images), expected, atol=1e-5)


def test_kuanglius_vgg_gives_its_own_logits(tiny, tmp_path):
    nn = torch.nn
    layers, inputs = [], 3
    for item in (8, 8, "M", 16, 16, "M", 32, 32, 32, "M", 64, 64, 64, "M", 64, 64, 64, "M"):
        if item == "M":
            layers += [nn.MaxPool2d(2, 2)]
        else:
            layers += [nn.Conv2d(inputs, item, 3, padding=1), nn.BatchNorm2d(item), nn.ReLU(inplace=True)]
            inputs = item
    features = nn.Sequential(*layers, nn.AvgPool2d(1, 1))
    theirs = nn.Sequential(OrderedDict(features=features, flat=nn.Flatten(), classifier=nn.Linear(64, 5)))
    theirs(torch.rand(8, 3, 32, 32))
    theirs.eval()
    target = tiny("vgg16", shape=(3, 32, 32), seed=2)
    load_weights(target, saved(tmp_path / "ckpt.pth", {"net": theirs.state_dict()}))
    images = torch.rand(4, 3, 32, 32)
    expected = theirs((images - target.normalize.mean) / target.normalize.std)
    assert torch.allclose(target(images), expected, atol=1e-5)


def test_the_wideresnets_of_trades_have_a_group_that_they_never_use(tiny, tmp_path):
    source, target = tiny("wrn28-10", seed=1), tiny("wrn28-10", seed=2)
    state = source.network.state_dict()
    state |= {f"sub_{name}": tensor.clone() + 1 for name, tensor in state.items() if name.startswith("block1.")}
    load_weights(target, saved(tmp_path / "model_cifar_wrn.pt", state))
    assert same_network(source, target)


@pytest.mark.parametrize("arch", ["vgg16", "mobilenetv2", "vit-tiny"])
@pytest.mark.parametrize("head", ["linear", "fc"])
def test_the_last_layer_under_another_name(tiny, tmp_path, arch, head):
    source, target = tiny(arch, seed=1), tiny(arch, seed=2)
    state = source.network.state_dict()
    last = list(state)[-1].removesuffix(".bias")
    state = {name.replace(f"{last}.", f"{head}."): tensor for name, tensor in state.items()}
    load_weights(target, saved(tmp_path / "a.pt", prefixed(state, "module.")))
    assert same_network(source, target)


def test_averaged_weights_are_taken_and_the_key_decides(tiny, tmp_path, caplog):
    plain, averaged = tiny(seed=1), tiny(seed=3)
    content = {"model": plain.network.state_dict(), "model_ema": prefixed(averaged.network.state_dict(), "module.")}
    content["model_ema"]["n_averaged"] = torch.tensor(7)
    path = saved(tmp_path / "a.pt", content)
    target = tiny(seed=2)
    with caplog.at_level(logging.WARNING):
        assert load_weights(target, path) == "model_ema.module"
    assert same_network(averaged, target)
    assert caplog.messages == [
        f"{path}: takes the averaged weights under 'model_ema.module'; for the others, set model.checkpoint_key to "
        "'model'"
    ]
    caplog.clear()
    assert load_weights(target, path, "model") == "model"
    assert same_network(plain, target)
    assert load_weights(target, path, "model_ema") == "model_ema.module"
    assert same_network(averaged, target)
    assert not caplog.messages


def test_two_networks_in_one_state_dict(tiny, tmp_path):
    plain, averaged = tiny(seed=1), tiny(seed=3)
    state = prefixed(plain.network.state_dict(), "model.") | prefixed(averaged.network.state_dict(), "ema.")
    state |= {"model.mean": torch.tensor([0.5]), "model.std": torch.tensor([0.5])}
    state |= {"ema.mean": torch.tensor([0.25]), "ema.std": torch.tensor([0.5])}
    path = saved(tmp_path / "a.ckpt", {"state_dict": state})
    target = tiny(seed=2)
    assert load_weights(target, path) == "state_dict.ema"
    assert (same_network(averaged, target), target.config.mean) == (True, (0.25,))
    assert load_weights(target, path, "state_dict.model") == "state_dict.model"
    assert (same_network(plain, target), target.config.mean) == (True, (0.5,))


def test_averaged_weights_that_do_not_fit_are_said_to_be_left_out(tiny, tmp_path, caplog):
    plain = tiny(seed=1)
    content = {"model": plain.network.state_dict(), "ema": dict(plain.network.named_parameters())}
    with caplog.at_level(logging.WARNING):
        assert load_weights(tiny(seed=2), saved(tmp_path / "a.pt", content)) == "model"
    assert "the averaged ones under 'ema' do not fit: missing: bn1.running_mean" in caplog.text


def test_several_networks_that_fit_are_ambiguous(tiny, tmp_path):
    content = {name: tiny(seed=seed).network.state_dict() for seed, name in enumerate(["student", "teacher"], 1)}
    path = saved(tmp_path / "a.pt", content)
    target = tiny(seed=5)
    with pytest.raises(
        InputError,
        match=r"a.pt: contains several networks that fit; set model.checkpoint_key to 'student' or 'teacher'$",
    ):
        load_weights(target, path)
    assert load_weights(target, path, "teacher") == "teacher"
    assert same_network(tiny(seed=2), target)
    with pytest.raises(
        InputError,
        match=r"a.pt: model.checkpoint_key = 'teacher2' does not lead to weights in this file; it has 'student' or "
        r"'teacher'; did you mean teacher\?$",
    ):
        load_weights(target, path, "teacher2")


def test_one_network_under_two_keys_is_not_ambiguous(tiny, tmp_path):
    state = tiny(seed=1).network.state_dict()
    path = saved(tmp_path / "a.pt", {"model": state, "best": state})
    target = tiny(seed=2)
    assert load_weights(target, path) == "model"
    assert load_weights(target, path, "best") == "best"
    assert same_network(tiny(seed=1), target)


def test_layers_that_the_architecture_lacks_are_not_left_out(tiny, tmp_path):
    state = prefixed(tiny(seed=1).network.state_dict(), "backbone.") | {"head.weight": torch.zeros(5, 5)}
    path = saved(tmp_path / "a.pt", state)
    with pytest.raises(InputError, match=r"the weights under 'backbone' do not match .*; unexpected: head.weight$"):
        load_weights(tiny(), path)
    # Unless you say that they are not part of it.
    assert load_weights(tiny(), path, "backbone") == "backbone"


def test_torchs_pruning_is_multiplied_out(tiny, tmp_path):
    from torch.nn.utils import prune

    source, target = tiny(seed=1), tiny(seed=2)
    for module in (source.network.conv1, source.network.fc, source.network.layer2[0].conv1):
        prune.l1_unstructured(module, "weight", 0.5)
    load_weights(target, saved(tmp_path / "a.pt", prefixed(source.network.state_dict(), "module.")))
    assert target.network.conv1.weight.equal(source.network.conv1.weight)
    assert target.network.fc.weight.equal(source.network.fc.weight)
    assert int((target.network.fc.weight == 0).sum()) == 160
    state = source.network.state_dict()
    state["fc.weight_mask"] = state["fc.weight_mask"] * 0.5
    with pytest.raises(InputError, match=r"fc\.weight_mask has values other than 0 and 1"):
        load_weights(target, saved(tmp_path / "a.pt", state))


def test_masks_of_parametrizations_are_multiplied_and_others_refused(tiny, tmp_path):
    source, target = tiny(seed=1), tiny(seed=2)
    state = source.network.state_dict()
    weight = state.pop("fc.weight")
    mask = (torch.arange(weight.numel()).reshape(weight.shape) % 2).bool()
    state |= {"fc.parametrizations.weight.original": weight, "fc.parametrizations.weight.0.mask": mask}
    load_weights(target, saved(tmp_path / "a.pt", state))
    assert target.network.fc.weight.equal(weight * mask)
    torch.nn.utils.parametrizations.weight_norm(source.network.fc)
    with pytest.raises(
        InputError,
        match=r"missing: fc.weight; unexpected: fc.parametrizations.weight.original0, fc.parametrizations.weight."
        r"original1; what a parametrisation computes is not in the file; before you save, call torch.nn.utils.param",
    ):
        load_weights(target, saved(tmp_path / "a.pt", source.network.state_dict()))


def test_an_object_in_place_of_a_tensor_is_named(tiny, tmp_path):
    state = tiny(seed=1).network.state_dict()
    state["fc.bias"] = np.zeros(5, np.float32)
    with pytest.raises(
        InputError,
        match=r"channels; not a tensor but a Python object, which is not loaded: fc.bias \(numpy\.\S+_reconstruct\)$",
    ):
        load_weights(tiny(), saved(tmp_path / "a.pt", state))
    state["fc.bias"] = torch.zeros(5).to_sparse()
    with pytest.raises(InputError, match=r"fc.bias \(torch._utils._rebuild_sparse_tensor\)$"):
        load_weights(tiny(), saved(tmp_path / "a.pt", state))


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
        ({}, "contains no tensors by name, as a state dict has; save the model's state_dict\\(\\) with torch.save"),
        ([torch.zeros(1)], "contains no tensors by name"),
        (torch.zeros(1), "contains no tensors by name"),
        ({"epoch": 3}, "contains no tensors by name"),
        ({3: torch.zeros(1)}, "unexpected: 3$"),
        (
            {"fc.weight": torch.zeros(5, 64), "linear.weight": torch.zeros(5, 64)},
            "the same tensor under two names: linear.weight",
        ),
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
        f"{tmp_path / 'a.pt'}: the weights under 'network' do not match model.arch = 'resnet18' with "
        "model.width = 0.125, 5 classes and 1 channels; unexpected: layer1.2.conv1.weight, "
        "layer1.2.bn1.weight, layer1.2.bn1.bias and 77 more"
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


def test_whole_pickled_models_are_refused_with_the_way_out(tiny, tmp_path):
    for content in (tiny(), {"net": torch.nn.DataParallel(tiny()), "epoch": 3}):
        torch.save(content, tmp_path / "a.pt")
        with pytest.raises(
            InputError,
            match=r"a.pt: contains a whole pickled module \((tscnc_deploy|torch)\..*\), whose code is not run; save "
            r"its state_dict\(\), or export it to ONNX$",
        ):
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
        InputError,
        match=r"a.onnx: model.checkpoint must be a file with weights: .safetensors, .pt, .pth, .ckpt, .bin or .tar",
    ):
        load_weights(tiny(), tmp_path / "a.onnx")
