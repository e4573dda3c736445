"""Takes many networks of torchvision and timm through all that a build does to one, with random weights.

    python benchmarks/networks.py [NAME...] [--again] [--table FILE]

Each network gets images of 32x32 pixels, or the smallest of 64, 96, 128, 192, 224, 240 and 256 that it takes, and is
pruned to 90% by one update of a Taylor saliency. One process builds it and writes its engines; a second one, which
imports neither torchvision nor timm, reads the graph that a bundle ships as the twin, opens the engines, compares them
and attacks them with gradients. Parameters that a network initialises with zeros get small random values, so that there
is something to compare. Differences are relative to the largest logit.

Networks with a result in benchmarks/results/networks.json are left out, unless they are named or --again is given.
--table puts the results as a table at the end of a page in Markdown, and runs nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results") / "networks.json"
SIDES = (32, 64, 96, 128, 192, 224, 240, 256)
SPARSITY, CLASSES, LIMIT_S = 0.9, 10, 1200
# Of float32 engines; rounding adds up over the layers of a deep network of random weights.
AGREES = 1e-3
TORCHVISION = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3",
    "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18",
    "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11", "vgg11_bn", "vit_b_16",
    "wide_resnet50_2",
)  # fmt: skip
TIMM = (
    "botnet26t_256", "cait_xxs24_224", "coat_lite_tiny", "coatnet_nano_rw_224", "convit_tiny", "convmixer_768_32",
    "convnext_atto", "crossvit_tiny_240", "cs3darknet_s", "davit_tiny", "deit_tiny_patch16_224", "densenet121",
    "dla46_c", "dpn48b", "edgenext_xx_small", "efficientformer_l1", "efficientformerv2_s0", "efficientnet_lite0",
    "efficientvit_b0", "efficientvit_m0", "ese_vovnet19b_dw", "eva02_tiny_patch14_224", "fastvit_t8",
    "focalnet_tiny_srf", "gcvit_xxtiny", "gernet_s", "ghostnet_050", "hardcorenas_a", "hgnetv2_b0", "hiera_tiny_224",
    "hrnet_w18_small", "inception_next_atto", "inception_v4", "legacy_seresnet18", "levit_128s", "mambaout_femto",
    "mixer_s32_224", "mobileone_s0", "mobilenetv3_small_050", "mobilevit_xxs", "mvitv2_tiny", "nest_tiny", "nfnet_l0",
    "pit_ti_224", "poolformer_s12", "pvt_v2_b0", "rdnet_tiny", "regnetx_002", "repghostnet_050", "repvgg_a0",
    "repvit_m0_9", "res2net50_14w_8s", "resmlp_12_224", "resnest14d", "resnet10t", "resnetv2_50", "rexnetr_200",
    "selecsls42", "sequencer2d_s", "skresnet18", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256",
    "tiny_vit_5m_224", "tnt_s_legacy_patch16_224", "tresnet_m", "twins_svt_small", "vgg11", "visformer_tiny",
    "vit_relpos_small_patch16_224", "vit_tiny_patch16_224", "volo_d1_224", "xception41", "xcit_nano_12_p16_224",
)  # fmt: skip
NETWORKS = (*(f"torchvision:{name}" for name in TORCHVISION), *(f"timm:{name}" for name in TIMM))
# Column of the table by result; all but the last must hold for a network to be green.
COLUMNS = {
    "prunes": "pruned exactly", "constraint": "constraint finite", "exports": "exported", "reads": "twin",
    "attack": "gradient attack", "int8": "int8", "sparse-cpu": "sparse-cpu", "rtx": "TensorRT-RTX",
}  # fmt: skip
HEADING = "## Networks that were tried"
NEEDED = tuple(name for name in COLUMNS if name != "rtx")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as timm:convnext_atto; default: all")
    parser.add_argument("--again", action="store_true", help="also those with a result")
    parser.add_argument("--table", type=Path, metavar="FILE", help="put the table there")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        _report(arguments.make, lambda note: make(arguments.names[0], arguments.make, note))
    elif arguments.open:
        _report(arguments.open, lambda note: reopen(arguments.open, note))
    elif arguments.table:
        text = arguments.table.read_text("utf-8").partition(HEADING)[0].rstrip()
        arguments.table.write_text(f"{text}\n\n" + table(json.loads(RESULTS.read_text("utf-8"))), encoding="utf-8")
    else:
        run(arguments.names or NETWORKS, again=arguments.again or bool(arguments.names))


def run(names: tuple[str, ...], *, again: bool) -> None:
    known = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {"networks": {}}
    known["versions"] = _versions()
    for name in names:
        if name in known["networks"] and not again:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found: dict[str, Any] = {}
            for step in ("--make", "--open"):
                if "error" not in found:
                    found |= _in_child(name, step, Path(folder))
        known["networks"][name] = found
        RESULTS.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        print(name, "green" if green(found) else {key: found.get(key) for key in NEEDED}, flush=True)


def green(found: dict[str, Any]) -> bool:
    """Whether all but TensorRT-RTX held."""
    return all(found.get(name) is True for name in NEEDED)


def make(name: str, folder: Path, note: dict[str, Any]) -> None:
    """Builds, prunes and exports a network; writes the twin and the engines."""
    import torch

    from tscnc_deploy import tscnc
    from tscnc_deploy.engines import ExportAids, can_export, export_engine, load_target
    from tscnc_deploy.engines.onnx.export import export_onnx
    from tscnc_deploy.engines.onnx.structure import recount
    from tscnc_deploy.pipeline.stages.trial import require_layers, require_masks

    model = _smallest(name, note)
    shape = model.config.input_shape
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        for parameter in model.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
        images, labels = torch.rand(8, *shape), torch.arange(8) % CLASSES
        loss = torch.nn.CrossEntropyLoss()
        model.eval()
        scores = tscnc.taylor(model, [lambda: loss(model(images), labels)])
    tscnc.Masks(tscnc.rank_globally(scores, SPARSITY, floor=0.01)).apply_(model)
    note["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    note["prunable"] = sum(weight.numel() for weight in tscnc.prunable_weights(model).values())
    with torch.no_grad():
        value = float(tscnc.Constraint("tscnc")(tscnc.layer_weights(model).values()))
    note["constraint"] = math.isfinite(value) or f"the constraint is {value}"
    twin = folder / "twin.onnx"
    export_onnx(model, twin, input_shape=shape)
    note["exports"] = True
    _noted(note, "prunes", lambda: (require_masks(model, recount(twin)), require_layers(model, twin)))
    torch.save((images, model(images).detach()), folder / "images.pt")
    aids = ExportAids(calibration=images.numpy(), dense=twin)
    for column, target in (("int8", "onnx-int8"), ("sparse-cpu", "sparse-cpu"), ("rtx", "tensorrt-rtx-fp32")):
        chosen = load_target(target)
        if missing := can_export(chosen):
            note[column] = f"not tried: {missing}"
            continue
        _noted(note, column, lambda: export_engine(model, chosen, folder / target, input_shape=shape, aids=aids))  # noqa: B023  (called at once)


def reopen(folder: Path, note: dict[str, Any]) -> None:
    """What whoever has only the bundle does: opens twin and engines, compares and attacks them."""
    import torch

    from tscnc_deploy.engines import open_engine
    from tscnc_deploy.engines.onnx.differentiable.graph import GraphModule
    from tscnc_deploy.engines.onnx.file import read_onnx
    from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine
    from tscnc_deploy.robustness import EngineVictim, Threat, evaluate, parse_attacks

    images, expected = torch.load(folder / "images.pt")
    path = folder / "twin.onnx"
    twin = GraphModule(read_onnx(path), path)
    engine = OnnxRuntimeEngine(path)
    threat = Threat(norm="Linf", epsilon=8 / 255)

    def compare(logits: Any) -> None:
        difference = float((torch.as_tensor(logits) - expected).abs().max() / expected.abs().max())
        note["difference"] = max(note.get("difference", 0.0), difference)
        if not difference <= AGREES:
            msg = f"logits differ by {difference:.2g} of the largest"
            raise ValueError(msg)

    def attack(victim: Any) -> None:
        labels = victim.logits(images).argmax(1)
        evaluate(victim, images, labels, threat, parse_attacks(["pgd-3"]))

    def sparse() -> None:
        compare(open_engine(folder / "sparse-cpu").logits(images.numpy()))

    def int8() -> None:
        file = folder / "onnx-int8" / "model.onnx"
        attack(EngineVictim(open_engine(folder / "onnx-int8"), GraphModule(read_onnx(file), file)))

    with torch.no_grad():
        _noted(note, "reads", lambda: compare(twin(images)))
    _noted(note, "attack", lambda: attack(EngineVictim(engine, twin)))
    for column, step in (("int8", int8), ("sparse-cpu", sparse)):
        if json.loads((folder / "note.json").read_text("utf-8")).get(column) is True:
            _noted(note, column, step)
    if foreign := sorted({"timm", "torchvision"} & set(sys.modules)):
        note["reads"] = f"imported {', '.join(foreign)}"


def table(known: dict[str, Any]) -> str:
    """The results as the last part of a page."""
    networks = known["networks"]
    count = sum(map(green, networks.values()))
    versions = ", ".join(f"{name} {version}" for name, version in known["versions"].items())
    lines = [
        HEADING,
        "",
        f"{count} of {len(networks)} networks are green in every column but TensorRT-RTX. Written by",
        "`benchmarks/networks.py`, which says what each column means; weights are random, 90% of them zero. With",
        f"{versions}.",
        "",
        f"| network | pixels | parameters | prunable | {' | '.join(COLUMNS.values())} |",
        f"|---|---|---|---|{'---|' * len(COLUMNS)}",
    ]
    reasons = []
    for name, found in networks.items():
        cells = []
        for column in COLUMNS:
            result = found.get(column, "not reached")
            if result is not True and not str(result).startswith(("not tried", "not reached")):
                reasons.append(f"- `{name}`, {COLUMNS[column]}: {result}")
            tried = column in found and not str(result).startswith("not tried")
            cells.append("yes" if result is True else "no" if tried else "")
        cells = [
            "" if str(found.get(column)).startswith("not tried") else cell
            for column, cell in zip(COLUMNS, cells, strict=True)
        ]
        if "error" in found:
            reasons.append(f"- `{name}`: {found['error']}")
        sizes = (found.get("side", ""), found.get("parameters", ""), found.get("prunable", ""))
        shown = (f"{size:,}" if isinstance(size, int) else size for size in sizes)
        lines.append(f"| {name} | {' | '.join((*shown, *cells))} |")
    return "\n".join([*lines, "", "What is not green:", "", *reasons]) + "\n"


def _smallest(name: str, note: dict[str, Any]) -> Any:
    from tscnc_deploy import models
    from tscnc_deploy.errors import InputError

    for side in SIDES:
        try:
            model = models.build(
                name, classes=CLASSES, input_shape=(3, side, side), mean=(0.5,) * 3, std=(0.25,) * 3, seed=0
            )
        except InputError as error:
            refused = error
            continue
        note["side"] = side
        return model
    raise refused


def _noted(note: dict[str, Any], column: str, step: Callable[[], object]) -> None:
    try:
        step()
    except Exception as error:  # the table shows whatever goes wrong
        note[column] = f"{type(error).__name__}: {str(error).strip()[:400]}"
        return
    note[column] = True


def _report(folder: Path, step: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "note.json"
    note: dict[str, Any] = {}
    try:
        step(note)
    except Exception as error:  # the table shows whatever goes wrong
        note["error"] = f"{type(error).__name__}: {str(error).strip()[:400]}"
    before = json.loads(path.read_text("utf-8")) if path.exists() else {}
    path.write_text(json.dumps(before | note), encoding="utf-8")


def _in_child(name: str, step: str, folder: Path) -> dict[str, Any]:
    try:
        done = subprocess.run([sys.executable, __file__, name, step, str(folder)], timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {LIMIT_S} s"}
    note = folder / "note.json"
    found: dict[str, Any] = json.loads(note.read_text("utf-8").replace(str(folder), "DIR")) if note.exists() else {}
    return found | ({"error": f"ended with status {done.returncode}"} if done.returncode else {})


def _versions() -> dict[str, str]:
    from tscnc_deploy.versions import installed_version

    names = ("torch", "torchvision", "timm", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "tensorrt-rtx")
    return {name: version for name in names if (version := installed_version(name))}


if __name__ == "__main__":
    main()
