from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bundle.folders import contents
from tscnc_deploy.bundle.manifest import REQUIRED, Manifest, parse_manifest

DIGEST = "0" * 64
FILE = {"sha256": DIGEST, "bytes": 3}


def document() -> dict[str, Any]:
    paths = [*REQUIRED, "engines/onnx-cpu/model.onnx", "engines/onnx-cuda/model.onnx"]
    return {
        "schema": "tscnc-bundle/2",
        "tscnc_deploy": "0.1.0",
        "files": {path: dict(FILE) for path in paths},
        **contents().model_dump(mode="json"),
    }


def parse(value: object) -> Manifest:
    return parse_manifest(json.dumps(value).encode())


def test_gives_back_what_was_written():
    manifest = parse(document())
    assert manifest.model.input_shape == (1, 8, 8)
    assert manifest.engines["onnx-cpu"].folder == "engines/onnx-cpu"
    assert parse_manifest(manifest.to_bytes()) == manifest
    assert json.loads(manifest.to_bytes()) == document()


def test_a_threat_may_be_in_l2():
    threat = parse(document() | {"threat": {"norm": "L2", "epsilon": 1.5}}).threat
    assert (threat.norm, threat.epsilon) == ("L2", 1.5)


def test_an_unknown_schema_names_the_known_one():
    with pytest.raises(ValueError, match=r"has a schema .* it is 'tscnc-bundle/3'; the known schema is tscnc-bundle/2"):
        parse(document() | {"schema": "tscnc-bundle/3"})
    with pytest.raises(ValueError, match="it is missing or not a string"):
        parse({})
    with pytest.raises(ValueError, match="is not a JSON object"):
        parse([])


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["files", "../x"], FILE, "files has the key '../x': is not a path inside the bundle"),
        (["files", "/etc/passwd"], FILE, "files has the key '/etc/passwd': is not a path"),
        (["files", "rеport.html"], FILE, "files has the key 'r\\u0435port.html': is not a path"),
        (["files", "a\u202eb"], FILE, "files has the key 'a\\u202eb': is not a path"),
        (
            ["files", "README.MD"],
            FILE,
            "'README.md' and 'README.MD', which are the same file on systems that ignore case",
        ),
        (
            ["files", "Evidence/x"],
            FILE,
            "'evidence' and 'Evidence', which are the same file on systems that ignore case",
        ),
        (["files", "manifest.json"], FILE, "files lists manifest.json itself"),
        (["files", "Manifest.json"], FILE, "files lists Manifest.json itself"),
        (["files", "recipe.toml", "sha256"], "0" * 63, "files.recipe.toml.sha256 = '" + "0" * 63),
        (["files", "recipe.toml", "sha256"], "A" * 64, "files.recipe.toml.sha256 = 'AAAA"),
        (["files", "recipe.toml", "bytes"], -1, "files.recipe.toml.bytes = '-1'"),
        (["files", "recipe.toml", "bytes"], 3.0, "files.recipe.toml.bytes = '3.0'"),
        (["files", "recipe.toml", "bytes"], True, "files.recipe.toml.bytes = 'True'"),
        (["files", "recipe.toml", "bytes"], 1 << 21, "files.recipe.toml.bytes is 2097152; at most 65536 are allowed"),
        (["files", "twin.onnx", "bytes"], 10**10, "files.twin.onnx.bytes is 10000000000; at most"),
        (["files", "recipe.toml", "mode"], 0o777, "files.recipe.toml.mode"),
        (["engines", "onnx-cpu", "folder"], "engines/onnx-cuda", "engines.onnx-cpu.folder is 'engines/onnx-cuda'"),
        (["engines", "onnx-cpu", "folder"], "../..", "engines.onnx-cpu.folder = '../..': is not a path"),
        (
            ["engines", "none"],
            {"folder": "engines/none", "kind": "x", "precision": "x", "attacked": True},
            "nothing in engines/none",
        ),
        (
            ["engines", "a b"],
            {"folder": "engines/ab", "kind": "x", "precision": "x", "attacked": True},
            "engines has the key 'a b'",
        ),
        (["passed"], "true", "passed = 'true'"),
        (["name"], "a/b", "name = 'a/b'"),
        (["name"], "\x1b[31m", "name = '\\x1b[31m'"),
        (["model", "sparsity"], 95, "model.sparsity = '95'"),
        (["model", "input_shape"], [1, 8], "model.input_shape"),
        (["model", "classes"], [], "model.classes"),
        (["threat", "epsilon"], 0, "threat.epsilon = '0'"),
        (["threat", "epsilon"], 8, "threat.epsilon = '8': is not a radius in (0, 1], the range of the pixels; write"),
        (["threat"], {"norm": "L2", "epsilon": -1.0}, "threat.epsilon = '-1.0': is not a radius above 0, the"),
        (["threat"], {"norm": "L2"}, "threat.epsilon"),
        (["threat", "norm"], "L1", "threat.norm = 'L1'"),
        (["extra"], 1, "extra = '1'"),
    ],
)
def test_names_the_wrong_entry(keys, value, message):
    wrong = document()
    place = wrong
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    with pytest.raises(ValueError) as caught:
        parse(wrong)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("path", REQUIRED)
def test_a_required_file_must_be_listed(path):
    wrong = document()
    del wrong["files"][path]
    with pytest.raises(ValueError, match=f"files does not list {path}, which every bundle holds"):
        parse(wrong)


def test_all_files_together_are_bounded():
    wrong = document()
    wrong["files"] |= {f"part{number}": {"sha256": DIGEST, "bytes": 4 << 30} for number in range(5)}
    with pytest.raises(ValueError, match="files come to 2147483"):
        parse(wrong)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=5), SCALARS, max_size=3)


@given(st.data())
def test_any_value_anywhere_is_taken_or_refused_in_one_printable_line(data):
    changed = copy.deepcopy(document())
    place: Any = changed
    while isinstance(place, dict | list) and place:
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        parent, key = place, data.draw(st.sampled_from(keys))
        place = place[key]
        if data.draw(st.booleans()):
            break
    parent[key] = data.draw(VALUES)
    try:
        parse(changed)
    except ValueError as error:
        assert str(error).isprintable()
