"""Attacks by the other files of a bundle, sealed again so that every digest agrees."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from tests.hostile.bundles import reseal

Damage = Callable[[Path], None]
RECORD, ARRAYS = "evidence/evidence.json", "evidence/evidence.safetensors"
RECIPE, TWIN, TARGET = "recipe.toml", "twin.onnx", "engines/onnx-cpu/target.json"


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("/tmp/bomb",)


def write(path: str, data: bytes | str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / path).write_bytes(data if isinstance(data, bytes) else data.encode())
        reseal(folder)

    return damage


def edit(path: str, old: str, new: str) -> Damage:
    def damage(folder: Path) -> None:
        text = (folder / path).read_text()
        assert old in text, (path, old)
        write(path, text.replace(old, new, 1))(folder)

    return damage


def grow(path: str, length: int, start: bytes = b"") -> Damage:
    def damage(folder: Path) -> None:
        (folder / path).write_bytes(start)
        os.truncate(folder / path, length)
        reseal(folder)

    return damage


def tensors(path: str, header: dict[str, Any] | str, data: bytes = b"") -> Damage:
    text = header if isinstance(header, str) else json.dumps(header)
    return write(path, struct.pack("<Q", len(text)) + text.encode() + data)


def tensor(*shape: int, bytes: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, bytes]}


def array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    def damage(folder: Path) -> None:
        arrays = safetensors.numpy.load_file(folder / ARRAYS)
        arrays[name] = change(arrays[name].copy())
        write(ARRAYS, safetensors.numpy.save(arrays))(folder)

    return damage


def set_first(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values.flat[0] = value
        return values

    return change


def nested(opening: str, levels: int, closing: str = "") -> str:
    return opening * levels + closing * levels


NPZ = (
    b"PK\x03\x04"
    + b"\0" * 26
    + b"images.npy\x93NUMPY\x01\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (9**9,)}"
)
HEADER = 100_000_000
FILES: dict[str, tuple[Damage, str]] = {
    "record nested": (write(RECORD, nested('{"a":', 100_000)), "is nested deeper than 32 levels"),
    "record nested within the limit": (write(RECORD, nested("[", 30) + nested("]", 30)), "is not a JSON object"),
    "record of empty objects": (write(RECORD, '{"a":[' + "{}," * 1_390_000 + "{}]}"), "at most 524288 are allowed"),
    "record of short lists": (write(RECORD, '{"a":[' + "[0]," * 250_000 + "0]}"), "has a wrong entry"),
    "record with a key twice": (
        edit(RECORD, '"passed": true', '"passed": true, "passed": true'),
        "twice in one object",
    ),
    "gate of NaN": (edit(RECORD, '"value": 0.0', '"value": NaN'), "holds NaN, which is not a JSON number"),
    "gate of infinity": (edit(RECORD, '"limit": 0.0', '"limit": Infinity'), "holds Infinity"),
    "gate beyond infinity": (edit(RECORD, '"limit": 0.0', '"limit": 1e999'), "which is too large"),
    "gate in words": (edit(RECORD, '"value": 0.0', '"value": "high"'), "gates.6.value"),
    "record that steers a terminal": (edit(RECORD, '"value": 0.0', '"value": "\\u001b[2J"'), "\\x1b[2J"),
    "half a character": (edit(RECORD, '"hostile"', '"\\ud800"'), "is not text in UTF-8"),
    "recipe nested": (write(RECIPE, "a = " + "[" * 30_000), "is not TOML"),
    "recipe of dotted keys": (write(RECIPE, ".".join("a" * 30_000) + " = 1"), "line 1 contains 29999 dots"),
    "recipe of dotted tables": (write(RECIPE, ("[" + ".".join("a" * 3500) + "]\n") * 9), "is not TOML"),
    "recipe with gates of NaN": (edit(RECIPE, "robust = 0.0", "robust = nan"), "gates.robust = nan"),
    "recipe with infinite epsilon": (edit(RECIPE, "epsilon = 0.05", "epsilon = inf"), "threat.epsilon = inf"),
    "recipe that is no text": (write(RECIPE, b"\xff\xfe" * 100), "is not UTF-8 text"),
    "recipe of 2 MB": (grow(RECIPE, 2_000_000), "files.recipe.toml.bytes is 2000000"),
    "evidence with a header of 100 MB": (grow(ARRAYS, HEADER + 8, struct.pack("<Q", HEADER)), "a header of 100000000"),
    "evidence with a header of exabytes": (
        write(ARRAYS, struct.pack("<Q", 1 << 60)),
        "a header of 1152921504606846976",
    ),
    "evidence of 10 GB": (
        tensors(ARRAYS, {"images": tensor(10**6, 1, 50, 50, bytes=10**10)}),
        "not a safetensors file",
    ),
    "evidence that overflows": (tensors(ARRAYS, {"images": tensor(2**62, 4, bytes=0)}), "not a safetensors file"),
    "evidence of objects": (
        tensors(ARRAYS, {"images": tensor(1, bytes=8, dtype="O")}, b"8bytes.."),
        "not a safetensors",
    ),
    "evidence pickled": (write(ARRAYS, pickle.dumps(Bomb())), "evidence.safetensors"),
    "evidence as npz with objects": (write(ARRAYS, NPZ), "evidence.safetensors"),
    "evidence of NaN": (array("images", set_first(np.nan)), "'images' has values outside [0, 1]"),
    "evidence of a class that is none": (array("labels", set_first(99)), "names a class outside 0 to 9"),
    "evidence of another form": (array("labels", lambda labels: labels[:3]), "must be int64 [48], not int64 [3]"),
    "evidence of a million arrays": (
        tensors(
            ARRAYS,
            "{" + ",".join(f'"{i:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for i in range(99_999)) + "}",
        ),
        "has a header of",
    ),
    "twin of 100 MB of nothing": (grow(TWIN, HEADER), "not an ONNX file, or a truncated one"),
    "twin pickled": (write(TWIN, pickle.dumps(Bomb())), "not an ONNX file, or a truncated one"),
    "twin that is empty": (write(TWIN, b""), "not an ONNX file: it contains no graph"),
    "twin of weights": (tensors(TWIN, {"a": tensor(1, bytes=4)}, b"4444"), "not an ONNX file, or a truncated one"),
    "target nested": (write(TARGET, "[" * 60_000), "not the target of an exported engine"),
    "target of 10 MB": (grow(TARGET, 10_000_000), "has 10000000 bytes; at most 65536 are allowed"),
    "target of another kind": (
        edit(TARGET, '"onnxruntime"', '"tensorrt"'),
        "does not list the file 'engines/onnx-cpu/engine.json'",
    ),
    "target with a key for the terminal": (
        edit(TARGET, '"tolerance": 0.001', '"\\u001b[2J\\ud83d\\ude00": 1'),
        r"\x1b[2J\U0001f600: Extra inputs",
    ),
    "target of NaN": (edit(TARGET, '"tolerance": 0.001', '"tolerance": NaN'), "tolerance"),
    "target under another name": (edit(TARGET, '"onnx-cpu"', '"sparse-cpu"'), "contains the engine 'sparse-cpu'"),
}
