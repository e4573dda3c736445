"""Damage drawn by hypothesis: bytes, fields of JSON, of safetensors headers, of ONNX messages, and keys of a recipe."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st
from onnx import ModelProto

from tests.hostile.bundles import reseal
from tests.hostile.files import ARRAYS, RECIPE, RECORD, TARGET, TWIN

Draw = Callable[[st.SearchStrategy[Any]], Any]
Mutation = Callable[[Path, Draw], None]

ONNX = (TWIN, "engines/onnx-cpu/model.onnx", "engines/sparse-cpu/model.onnx")
FILES = (*ONNX, TARGET, "engines/sparse-cpu/target.json", RECORD, ARRAYS, RECIPE, "manifest.json")
NUMBERS = (0, -1, 1, 2, 7, 255, 65536, 2**31 - 1, 2**31, -(2**31), 2**32, 2**53, 2**62, 2**63 - 1, -(2**63))
TEXTS = (
    "",
    "twin",
    "onnx-cpu",
    "../..",
    "/etc/passwd",
    "\x1b[2J",
    "\u202e",
    "е",
    "a" * 300,
    "nan",
    "1e999",
    "L2",
    "None",
)
VALUES: st.SearchStrategy[Any] = (
    st.sampled_from([None, True, False, [], {}, [[]], {"": 0}, 0.0, -0.0, 0.5, -1.5, 1e308, 5e-324, *NUMBERS, *TEXTS])
    | st.lists(st.integers(-3, 300), max_size=5)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=3)
)


def flip_bytes(folder: Path, draw: Draw) -> None:
    """A few bytes anywhere, or a piece cut out, doubled or put in."""
    path = folder / draw(st.sampled_from(FILES))
    data = bytearray(path.read_bytes())
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(len(data) - 1, 0)))
        end = start + draw(st.integers(0, 40))
        match draw(st.sampled_from(["change", "cut", "double", "insert", "end"])):
            case "change":
                data[start : start + 1] = draw(st.binary(min_size=1, max_size=4))
            case "cut":
                del data[start:end]
            case "double":
                data[end:end] = data[start:end]
            case "insert":
                data[start:start] = draw(st.binary(max_size=20))
            case "end":
                del data[start:]
    path.write_bytes(data)
    if path.name != "manifest.json":
        reseal(folder)


def change_json(folder: Path, draw: Draw) -> None:
    """Values, keys and elements of one of the JSON files, the manifest's statements among them."""
    path = folder / draw(st.sampled_from([RECORD, TARGET, "engines/sparse-cpu/target.json", "manifest.json"]))
    document = json.loads(path.read_text())
    for _ in range(draw(st.integers(1, 3))):
        _change_node(document, draw)
    path.write_text(json.dumps(document))
    if path.name != "manifest.json":
        reseal(folder)


def change_header(folder: Path, draw: Draw) -> None:
    """The header of a safetensors file, usually with its length corrected."""
    path = folder / ARRAYS
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    _change_node(header, draw)
    text = json.dumps(header).encode()
    claimed = draw(st.sampled_from([len(text)] * 4 + [0, len(text) - 1, len(text) + 1, 2**40]))
    path.write_bytes(struct.pack("<Q", max(claimed, 0)) + text + data[8 + length :])
    reseal(folder)


def change_network(folder: Path, draw: Draw) -> None:
    """Fields of the messages of an ONNX file."""
    path = folder / draw(st.sampled_from(ONNX))
    model = ModelProto.FromString(path.read_bytes())
    for _ in range(draw(st.integers(1, 3))):
        _change_message(model, draw)
    path.write_bytes(model.SerializeToString())
    reseal(folder)


def change_recipe(folder: Path, draw: Draw) -> None:
    """Values of a recipe's keys, or lines in other places."""
    path = folder / RECIPE
    lines = path.read_text().splitlines()
    keys = [place for place, line in enumerate(lines) if " = " in line and not line.startswith("#")]
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(keys))
        key = lines[place].split(" = ")[0]
        literal = draw(
            VALUES.map(json.dumps) | st.sampled_from(["nan", "inf", "1979-05-27", "[", "{a=1}", '"""', "0x7f"])
        )
        lines[place] = draw(
            st.sampled_from([f"{key} = {literal}", f"{key} = {literal}\n{lines[place]}", f"[{key}]", ""])
        )
    path.write_text("\n".join(lines))
    reseal(folder)


MUTATIONS: tuple[Mutation, ...] = (flip_bytes, change_json, change_header, change_network, change_recipe)


def _change_node(document: Any, draw: Draw) -> None:
    node = document
    while isinstance(node, dict | list) and node:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = draw(st.sampled_from(keys))
        child = node[key]
        if not (isinstance(child, dict | list) and child) or draw(st.integers(0, 4)) == 0:
            _replace(node, key, draw)
            return
        node = child


def _replace(node: Any, key: Any, draw: Draw) -> None:
    match draw(st.sampled_from(["value", "value", "value", "remove", "add"])):
        case "value":
            node[key] = draw(VALUES)
        case "remove":
            del node[key]
        case "add" if isinstance(node, dict):
            node[draw(st.sampled_from(TEXTS) | st.text(max_size=5))] = draw(st.sampled_from([node[key], 1, "x"]))
        case "add":
            node.append(node[key])


def _change_message(message: Message, draw: Draw) -> None:
    while True:
        fields = [descriptor for descriptor, _ in message.ListFields()]
        # What is empty is found by its name, what is there by its value.
        if not fields or draw(st.integers(0, 9)) == 0:
            fields = list(message.DESCRIPTOR.fields)
        field = draw(st.sampled_from(sorted(fields, key=lambda field: field.number)))
        inner = field.type == FieldDescriptor.TYPE_MESSAGE
        values = getattr(message, field.name)
        many = hasattr(values, "append") or hasattr(values, "add")
        if not inner or (many and not len(values)):
            _change_field(message, field, many, draw)
            return
        if draw(st.integers(0, 9)) == 0:
            _change_field(message, field, many, draw)
            return
        message = values[draw(st.integers(0, len(values) - 1))] if many else values


def _change_field(message: Message, field: FieldDescriptor, many: bool, draw: Draw) -> None:
    values = getattr(message, field.name)
    action = draw(st.sampled_from(["set", "set", "clear", "double"]))
    if action == "clear" or (field.type == FieldDescriptor.TYPE_MESSAGE and (not many or not len(values))):
        message.ClearField(field.name)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        place = draw(st.integers(0, len(values) - 1))
        if action == "set":
            del values[place]
        else:
            values.add().CopyFrom(values[place])
    elif not many:
        setattr(message, field.name, _scalar(field, draw))
    elif action == "double" or not len(values):
        values.append(_scalar(field, draw))
    else:
        values[draw(st.integers(0, len(values) - 1))] = _scalar(field, draw)


def _scalar(field: FieldDescriptor, draw: Draw) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            text = draw(st.sampled_from([*TEXTS, "Relu", "Tile", "If", "ai.onnx.ml"]))
            return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return draw(st.sampled_from([0.0, -1.0, 1e30, float("nan"), float("inf")]))
        case FieldDescriptor.CPPTYPE_ENUM:
            return draw(st.sampled_from([value.number for value in field.enum_type.values]))
        case FieldDescriptor.CPPTYPE_INT64:
            return draw(st.sampled_from(NUMBERS) | st.integers(-4, 70))
        case _:
            return draw(st.integers(0, 40) | st.sampled_from([2**31 - 1]))
