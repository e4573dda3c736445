"""The transformer: what its forms are, and that everything which knows layers sees all of its weights."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from torch import nn

from tests.engines.architectures import network
from tscnc_deploy.engines import ExportAids, export_engine, load_target, open_engine
from tscnc_deploy.engines.onnx.structure import recount
from tscnc_deploy.errors import InputError
from tscnc_deploy.models import ModelConfig, build, layer_multiply_adds, load_model
from tscnc_deploy.models.builtin.vit import Attention
from tscnc_deploy.models.classifier import skeleton
from tscnc_deploy.models.folded import FoldedCopy
from tscnc_deploy.tscnc import Constraint, Masks, magnitude, prunable_weights, rank_globally


def vit(shape=(1, 8, 8), width=1 / 3, seed=0):
    channels = shape[0]
    return build(
        "vit-tiny", classes=4, input_shape=shape, mean=[0.4] * channels, std=[0.3] * channels, width=width, seed=seed
    ).eval()


def images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("height", "width", "patch", "tokens"),
    [
        (1, 1, 2, 1),
        (8, 8, 2, 16),
        (15, 15, 2, 64),
        (16, 16, 4, 16),
        (32, 32, 4, 64),
        (33, 31, 4, 9 * 8),
        (64, 64, 8, 64),
        (224, 224, 16, 196),
        (96, 200, 16, 6 * 13),
    ],
)
def test_patches_suit_the_shorter_side_and_cover_the_image(height, width, patch, tokens):
    network = vit((1, height, width), 0.05).network
    assert network.patches.kernel_size == network.patches.stride == (patch, patch)
    assert len(network.positions.table) == tokens
    reached = network.patches(torch.zeros(1, 1, height, width)).numel()
    assert reached == tokens * network.patches.out_channels


@pytest.mark.parametrize("size", [(5, 7), (9, 16), (17, 33)])
def test_every_pixel_counts(size):
    points = images(1, 1, *size).requires_grad_()
    model = vit((1, *size))
    gradient = torch.autograd.grad(model(points).square().sum(), points)[0]
    assert (gradient != 0).all()


# DeiT's tiny, small and base have 3, 6 and 12 heads.
@pytest.mark.parametrize(
    ("width", "dim", "heads"), [(1, 192, 3), (2, 384, 6), (4, 768, 12), (1 / 3, 64, 1), (0.5, 96, 2), (0.01, 8, 1)]
)
def test_width_scales_tokens_and_heads(width, dim, heads):
    network = skeleton(ModelConfig("vit-tiny", width, 4, (1, 8, 8), (0.4,), (0.3,))).network
    attention = network.blocks[11].attention
    assert attention.heads == heads
    assert network.patches.out_channels == dim
    assert attention.query.weight.shape == attention.output.weight.shape == (dim, dim)
    assert network.blocks[11].mlp[0].weight.shape == (4 * dim, dim)


@pytest.mark.parametrize("heads", [1, 3])
def test_attention_is_that_of_torch(heads):
    ours = Attention(24, heads, tokens=5).eval()
    theirs = nn.MultiheadAttention(24, heads, batch_first=True).eval()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
    theirs.out_proj.load_state_dict(ours.output.state_dict())
    tokens = images(3, 5, 24)
    with torch.no_grad():
        found = ours(tokens.flatten(0, 1)).reshape(tokens.shape)
        expected, _ = theirs(tokens, tokens, tokens)
    assert torch.allclose(found, expected, atol=1e-5)


def test_images_of_a_batch_do_not_see_each_other_and_the_tokens_of_an_image_do():
    rows = images(2 * 16, 64).requires_grad_()
    of_the_first = vit().network.blocks[0](rows)[0].sum()
    (gradient,) = torch.autograd.grad(of_the_first, rows)
    assert [bool(row.any()) for row in gradient] == [True] * 16 + [False] * 16


def test_places_are_told_apart():
    model, points = vit(), images(1, 1, 8, 8)
    with torch.no_grad():
        assert not torch.allclose(model(points), model(points.flip(-1)), atol=1e-4)


def test_too_many_patches_are_refused_with_what_to_do():
    with pytest.raises(InputError, match=r"images of 2000x1000 pixels have 7875 patches of 16x16.* data.image_size"):
        vit((1, 2000, 1000))


def test_a_file_that_asks_for_too_many_patches_is_refused_by_its_name(tmp_path):
    config = ModelConfig("vit-tiny", 1.0, 4, (1, 4096, 4096), (0.4,), (0.3,))
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors.torch.save({"a": torch.zeros(1)}, {"config": config.to_json()}))
    with pytest.raises(InputError, match=r"model.safetensors: images of 4096x4096 pixels have 65536 patches"):
        load_model(path)


def test_all_weights_but_norms_biases_and_positions_are_pruned_to_the_very_number():
    model = vit()
    weights = prunable_weights(model)
    # Patches, twelve blocks of six layers, the classifier.
    assert len(weights) == 1 + 12 * 6 + 1
    left = {name for name, parameter in model.named_parameters() if parameter.ndim > 1} - set(weights)
    assert left == {"network.positions.table"}
    masks = Masks(rank_globally(magnitude(model), 0.9, floor=0.01))
    masks.apply_(model)
    total = sum(weight.numel() for weight in weights.values())
    assert sum(int(weight.count_nonzero()) for weight in weights.values()) == total - round(0.9 * total)


@pytest.mark.parametrize("name", ["log-frobenius", "kaporin"])
def test_the_constraints_reach_every_layer(name):
    model = vit()
    weights = prunable_weights(model)
    Constraint(name)(weights.values()).backward()
    assert all(weight.grad.isfinite().all() and weight.grad.any() for weight in weights.values())


def test_the_copy_for_attacks_runs_in_bfloat16():
    model, points = vit(), images(4, 1, 8, 8)
    twin = FoldedCopy(model, torch.bfloat16)
    layers = [parameter for name, parameter in twin.network.named_parameters() if "attention" in name]
    assert {parameter.dtype for parameter in layers} == {torch.bfloat16}
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        found = twin.refreshed()(points).float()
    with torch.no_grad():
        expected = model(points)
    assert (found - expected).abs().max() <= 0.05 * expected.abs().max()


SHAPE = (3, 8, 8)


@pytest.fixture(scope="module")
def pruned():
    return network("vit-tiny", 8)


@pytest.mark.slow
@pytest.mark.parametrize(("target", "precision", "close"), [("onnx-cpu", "fp32", 1e-5), ("onnx-int8", "int8", 0.2)])
def test_exported_files_keep_every_weight_under_its_name(pruned, architectures, tmp_path, target, precision, close):
    points = images(64, *SHAPE)
    aids = ExportAids(calibration=points.numpy(), dense=architectures.dense("vit-tiny", 8))
    files = export_engine(pruned, load_target(target), tmp_path, input_shape=SHAPE, aids=aids)
    structure = recount(files.graph)
    assert structure.precision == precision
    assert {layer.name for layer in structure.layers} == set(prunable_weights(pruned))
    assert {layer.name: layer.multiply_adds for layer in structure.layers} == layer_multiply_adds(pruned)
    nonzero = sum(int(weight.count_nonzero()) for weight in prunable_weights(pruned).values())
    assert structure.nonzero == nonzero if precision == "fp32" else structure.nonzero <= nonzero
    with torch.no_grad():
        expected = pruned(points).numpy()
    found = open_engine(tmp_path, threads=1).logits(points.numpy())
    assert np.abs(found - expected).max() <= close * np.abs(expected).max()


@pytest.mark.slow
def test_half_precision_computes_everything_between_the_ends_in_half(architectures):
    half = architectures.half("vit-tiny", 8)
    assert recount(half).precision == "fp16"
    # A type that does not fit is found by no emulation, only by the checker.
    onnx.checker.check_model(onnx.load(half), full_check=True)


@pytest.mark.slow
@pytest.mark.tensorrt_rtx
@pytest.mark.parametrize("name", ["tensorrt-rtx-fp16", "tensorrt-rtx-int8"])
def test_tensorrt_builds_it(pruned, architectures, tmp_path, name):
    target = load_target(name).model_copy(update={"capabilities": ("SM89",)})
    aids = ExportAids(calibration=images(64, *SHAPE).numpy(), dense=architectures.dense("vit-tiny", 8))
    files = export_engine(pruned, target, tmp_path, input_shape=SHAPE, aids=aids)
    assert files.model.stat().st_size > 0
    assert recount(files.graph).precision == target.precision
