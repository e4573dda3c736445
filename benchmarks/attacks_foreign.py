"""AutoAttack on ONNX files without a PyTorch twin, compared with its reference implementation on the PyTorch original.

    python benchmarks/attacks_foreign.py [--images 512] [--epsilon 0.15] [--seed 0]

Trains a network of three convolutions adversarially on scikit-learn's digits and exports it as anybody would: with
torch.onnx.export as it is, and in 8 bits by onnxruntime's quantisers (QDQ, QOperator, and dynamic). Each file is opened
as `tscnc-deploy verify FILE.onnx` opens it: the runtime's logits decide, and gradients come from the file's own graph.
pyautoattack 0.2.0 attacks the PyTorch original. An 8-bit file is another network, so its row shows its own accuracy;
next to it stands square-1000, all that was possible without gradients. A dynamically quantised file takes one image at
a time, so only 64 are attacked. Writes benchmarks/results/attacks_foreign-MACHINE.json after every file.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from attacks_reference import RESULTS, machine, machine_name, there, trained_digits
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from torch import Tensor, nn

from tscnc_deploy.engines.onnx.reading import Reading
from tscnc_deploy.robustness import Threat, evaluate, parse_attacks
from tscnc_deploy.verify import OnnxSource

ENSEMBLE = "autoattack-standard"
DYNAMIC_IMAGES = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512, help="how many of the 597 test images to attack")
    parser.add_argument("--epsilon", type=float, default=0.15)
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(norm="Linf", device="cpu")
    arguments = parser.parse_args()
    model, images, labels = trained_digits("plain", arguments.seed, "cpu")
    images, labels = images[: arguments.images], labels[: arguments.images]
    threat = Threat(norm="Linf", epsilon=arguments.epsilon)
    found = there(model, images, labels, threat, ["apgd-ce", "apgd-t", "fab-t", "square"], arguments)
    with torch.no_grad():
        robust = model(threat.project(found, images)).argmax(1) == labels
    record: dict[str, Any] = {
        "images": len(images),
        "norm": "Linf",
        "epsilon": threat.epsilon,
        "seed": arguments.seed,
        "machine": machine("cpu"),
        "reference": {"name": "pyautoattack 0.2.0", "robust": int(robust.sum())},
        "files": {},
    }
    print(f"pyautoattack on the PyTorch original: {int(robust.sum())} of {len(images)} robust", flush=True)
    RESULTS.mkdir(exist_ok=True)
    written = RESULTS / f"attacks_foreign-{machine_name('cpu')}.json"
    with tempfile.TemporaryDirectory() as folder:
        for path in exported(model, images, Path(folder)):
            some = slice(DYNAMIC_IMAGES if path.stem == "int8_dynamic" else None)
            row = attacked(path, images[some], labels[some], threat, arguments.seed)
            record["files"][path.stem] = row
            print(path.stem, json.dumps(row), flush=True)
            written.write_text(json.dumps(record, indent=2) + "\n")
    print(f"written to {written}")


def exported(model: nn.Module, images: Tensor, folder: Path) -> list[Path]:
    plain, single = folder / "as_exported.onnx", folder / "single.onnx"
    batch = ({0: torch.export.Dim("batch")},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (images[:2],), plain, dynamic_shapes=batch, verbose=False)
        # The older exporter, as the dynamic quantiser refuses shapes that the newer one declares.
        axes = {"input": {0: "batch"}, "logits": {0: "batch"}}
        names = {"input_names": ["input"], "output_names": ["logits"]}
        torch.onnx.export(model, (images[:2],), single, dynamo=False, dynamic_axes=axes, **names)
    paths = [plain, folder / "int8_qdq.onnx", folder / "int8_qoperator.onnx", folder / "int8_dynamic.onnx"]
    for path, form in ((paths[1], QuantFormat.QDQ), (paths[2], QuantFormat.QOperator)):
        quantize_static(single, path, Calibration(images), quant_format=form, weight_type=QuantType.QInt8)
    quantize_dynamic(single, paths[3])
    return paths


class Calibration(CalibrationDataReader):
    """Images in batches of 16, for onnxruntime's static quantiser."""

    def __init__(self, images: Tensor) -> None:
        self._batches = iter(images[:128].split(16))

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"input": batch.numpy()}


def attacked(path: Path, images: Tensor, labels: Tensor, threat: Threat, seed: int) -> dict[str, Any]:
    # The form QOperator has onnxruntime's own operators, which the command line takes with --allow-contrib-operators.
    source = OnnxSource(path, reading=Reading(contrib=True), own_gradient=True)
    parity, _ = source.own_gradient_parity(images.numpy())

    def robust(names: list[str], victim: Any) -> int:
        attacks = parse_attacks(names)
        found = evaluate(victim, images, labels, threat, attacks, seed=seed, batch_size=256, cascade=True)
        return int(found.robust_mask.sum())

    return {
        "images": len(images),
        "parity": parity.to_json(),
        "robust": robust([ENSEMBLE], source.open("cpu")),
        "robust_black_box": robust(["square-1000"], replace(source, own_gradient=False).open("cpu")),
    }


if __name__ == "__main__":
    main()
