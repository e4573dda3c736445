from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from tests.verify.models import MEAN, STD, accuracy, random_images
from tscnc_deploy.errors import InputError, UnavailableError
from tscnc_deploy.models import build
from tscnc_deploy.verify import CheckpointSource, IOSpec, checkpoint_source, draw_images


def test_a_file_of_this_package_says_what_it_holds(files, recipe, digits):
    source = checkpoint_source(files.saved, recipe, digits)
    assert source == CheckpointSource(files.saved)
    assert (source.name, source.form()) == ("model", IOSpec((1, 8, 8), 10))
    assert source.open("cpu").logits(random_images()).equal(files.model(random_images()))


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.ckpt", "a.bin", "a.pth.tar", "a.safetensors"])
def test_weights_alone_take_their_form_from_recipe_and_data(files, recipe, digits, tmp_path, name):
    state = {f"module.{key}": value for key, value in files.model.network.state_dict().items()}
    save = safetensors.torch.save_file if name.endswith("safetensors") else torch.save
    save(state, tmp_path / name)
    source = checkpoint_source(tmp_path / name, recipe, digits, mean=MEAN, std=STD)
    assert source.form() == IOSpec((1, 8, 8), 10)
    victim = source.open("cpu")
    assert victim.logits(random_images()).equal(files.model(random_images()))
    assert not any(part.training for part in victim.module.modules())


def test_without_a_normalisation_it_is_that_of_the_training_images(files, recipe, digits):
    source = checkpoint_source(files.weights, recipe, digits)
    assert (source.config.mean, source.config.std) == digits.channel_statistics()


def test_an_order_of_classes(files, digits):
    images, labels, _ = draw_images(digits, None, 0)
    order = tuple(reversed(range(10)))
    source = CheckpointSource(files.saved, order=order)
    logits = source.open("cpu").logits(images)
    assert accuracy(logits, 9 - labels) == accuracy(files.model(images), labels) > 0.6
    assert CheckpointSource(files.saved, order=(4, 2)).form() == IOSpec((1, 8, 8), 2)


def test_more_logits_than_classes(recipe, digits, tmp_path):
    model = build("resnet18", classes=13, input_shape=(1, 8, 8), mean=MEAN, std=STD, width=0.125).eval()
    torch.save(model.network.state_dict(), tmp_path / "many.pt")
    with pytest.raises(InputError, match="10 classes"):
        checkpoint_source(tmp_path / "many.pt", recipe, digits).open("cpu")
    order = tuple(range(3, 13))
    source = checkpoint_source(tmp_path / "many.pt", recipe, digits, outputs=13, mean=MEAN, std=STD, order=order)
    assert source.open("cpu").logits(random_images()).equal(model(random_images())[:, 3:])


def test_gradients_of_images_only(files):
    victim = CheckpointSource(files.saved).open("cpu")
    images = random_images().requires_grad_()
    victim.differentiable(images).sum().backward()
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in victim.module.parameters())


def test_other_processes_open_the_same(files, recipe, digits):
    source = checkpoint_source(files.weights, recipe, digits, order=(1, 0))
    copy = pickle.loads(pickle.dumps(source))
    assert (copy, hash(copy)) == (source, hash(source))
    assert copy.open("cpu").logits(random_images()).equal(source.open("cpu").logits(random_images()))


def test_the_digest_covers_what_determines_the_logits(files, recipe, digits, tmp_path):
    source = checkpoint_source(files.weights, recipe, digits)
    (tmp_path / "b.pt").write_bytes(files.weights.read_bytes())
    assert replace(source, path=tmp_path / "b.pt").digest() == source.digest()
    others = [
        replace(source, path=files.saved),
        replace(source, config=replace(source.config, mean=(0.1,))),
        replace(source, config=None),
        replace(source, order=(1, 0)),
        replace(source, key="ema"),
    ]
    assert len({source.digest(), *(other.digest() for other in others)}) == 6


def test_what_is_no_checkpoint_is_refused(files, recipe, digits, tmp_path):
    for name, content, message in [
        ("empty.pt", b"", "damaged"),
        ("empty.safetensors", b"", "not a readable safetensors file"),
        ("cut.safetensors", files.saved.read_bytes()[:1000], "not a readable safetensors file"),
        ("cut.pt", files.weights.read_bytes()[:1000], "damaged"),
        ("model.bin", b"x", "damaged"),
        ("model.npz", b"x", "must be a file with weights"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}: .*{message}"):
            checkpoint_source(tmp_path / name, recipe, digits).open("cpu")
    (tmp_path / "folder.pt").mkdir()
    for name in ("folder.pt", "none.pt", "none.safetensors"):
        with pytest.raises(InputError, match=name):
            checkpoint_source(tmp_path / name, recipe, digits).open("cpu")
    with pytest.raises(InputError, match=r"none\.pt: cannot be read"):
        CheckpointSource(tmp_path / "none.pt").digest()


def test_the_recipes_key_chooses_among_networks(files, recipe, digits, tmp_path):
    other = build("resnet18", classes=10, input_shape=(1, 8, 8), mean=MEAN, std=STD, width=0.125, seed=7).eval()
    content = {"model": files.model.network.state_dict(), "ema": other.network.state_dict()}
    torch.save(content, tmp_path / "a.pth.tar")
    for key, expected in (("model", files.model), ("ema", other), (None, other)):
        chosen = recipe.model_copy(update={"model": recipe.model.model_copy(update={"checkpoint_key": key})})
        source = checkpoint_source(tmp_path / "a.pth.tar", chosen, digits, mean=MEAN, std=STD)
        assert source.key == key
        assert source.open("cpu").logits(random_images()).equal(expected(random_images()))


def test_a_normalisation_in_plain_weights(files, recipe, digits, tmp_path):
    state = {f"1.{name}": tensor for name, tensor in files.model.network.state_dict().items()}
    torch.save(state | {"0.mean": torch.tensor(MEAN), "0.std": torch.tensor(STD)}, tmp_path / "a.pt")
    for stated in ({}, {"mean": MEAN, "std": STD}):
        source = checkpoint_source(tmp_path / "a.pt", recipe, digits, **stated)
        assert source.open("cpu").logits(random_images()).equal(files.model(random_images()))
    with pytest.raises(
        InputError,
        match=r"a.pt: contains its normalisation, mean \[0.3\d*\] and std .* but \[0.5\] .* leave out --mean",
    ):
        checkpoint_source(tmp_path / "a.pt", recipe, digits, mean=(0.5,), std=STD).open("cpu")


def test_settings_that_contradict_the_file_are_refused(files, recipe, digits):
    with pytest.raises(InputError, match="contains its normalisation; leave out --mean and --std"):
        checkpoint_source(files.saved, recipe, digits, mean=MEAN, std=STD)
    with pytest.raises(InputError, match="--std is given without --mean"):
        checkpoint_source(files.weights, recipe, digits, std=STD)
    with pytest.raises(InputError, match="one finite number for each channel"):
        checkpoint_source(files.weights, recipe, digits, mean=(0.1, 0.2), std=(0.1, 0.2))
    with pytest.raises(InputError, match="has 10 logits, but --labels names logit 10"):
        CheckpointSource(files.saved, order=(0, 10)).open("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without an NVIDIA GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there(files, device):
    with pytest.raises(UnavailableError, match="torch finds no GPU"):
        CheckpointSource(files.saved).open(device)
