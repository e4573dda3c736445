from __future__ import annotations

import json
from xml.etree import ElementTree

import onnx

from tests.conftest import invoke


def test_every_engine_is_timed_beside_its_dense_twin(tiny_build, tmp_path):
    result = invoke(
        "bench", tiny_build.folder, "--batch", "2", "--batch", "1", "--repeats", "3", "--warmup", "1",
        "--threads", "1", "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    rows = [(row["engine"], row["network"], row["batch"], row["calls"]) for row in document["results"]]
    assert rows == [("onnx-cpu", network, batch, 3) for batch in (1, 2) for network in ("pruned", "dense")]
    assert {row["provider"] for row in document["results"]} == {"CPUExecutionProvider"}
    assert document["settings"] == {"batches": [1, 2], "repeats": 3, "warmup": 1, "threads": 1}
    for row, speedup in zip(document["results"][::2], document["speedups"], strict=True):
        dense = next(r for r in document["results"] if r["network"] == "dense" and r["batch"] == row["batch"])
        assert speedup["speedup"] == dense["p50_ms"] / row["p50_ms"]
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
    assert set(document["machine"]["before"]) == {"cpu_mhz", "cpu_governor", "gpu"}
    assert json.loads((tmp_path / "out" / "bench.json").read_text()) == document
    assert ElementTree.parse(tmp_path / "out" / "bench.svg").getroot().tag.endswith("svg")
    assert (tmp_path / "out" / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_people_get_a_table_and_how_it_was_measured(tiny_build):
    result = invoke("bench", tiny_build.bundle, "--batch", "1", "--repeats", "2", "--warmup", "0")
    header = " ".join(result.stdout.splitlines()[0].split())
    assert header == "engine network batch p50 ms p95 ms p99 ms images/s speedup over own dense twin"
    assert "2 calls each, in turns, after 0 untimed calls; CPUExecutionProvider" in result.stdout
    assert "dense twin (no zeros, exported by the same target) / p50 of the pruned engine" in result.stdout


def test_an_unknown_engine_is_2(tiny_build):
    result = invoke("bench", tiny_build.bundle, "--engine", "onnx-gpu")
    assert result.exit_code == 2
    assert "engine 'onnx-gpu' not found; the bundle has onnx-cpu" in result.stderr


def test_a_folder_that_cannot_be_written_is_2(tiny_build, tmp_path):
    (tmp_path / "file").touch()
    result = invoke("bench", tiny_build.bundle, "--batch", "1", "--repeats", "1", "--out", tmp_path / "file" / "out")
    assert result.exit_code == 2
    assert "--out" in result.stderr


def test_an_onnx_file_is_timed(tiny_build, tmp_path):
    file = tiny_build.bundle / "engines" / "onnx-cpu" / "model.onnx"
    options = ("--batch", "2", "--repeats", "3", "--warmup", "1", "--json")
    result = invoke("bench", file, *options, "--range", "255", "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    (row,) = document["results"]
    assert (row["engine"], row["network"], row["batch"], row["calls"]) == ("model", "file", 2, 3)
    assert document["speedups"] == []
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_how_a_file_is_read_is_said(tiny_build, tmp_path):
    model = onnx.load(tiny_build.bundle / "engines" / "onnx-cpu" / "model.onnx")
    model.graph.node.append(onnx.helper.make_node("Softmax", ["logits"], ["p"]))
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("p", 1, ["batch", 10]))
    onnx.save(model, tmp_path / "soft.onnx")
    result = invoke("bench", tmp_path / "soft.onnx", "--batch", "1", "--repeats", "2", "--warmup", "0")
    assert "the Softmax at its end is left out" in result.stderr


def test_options_of_files_and_of_bundles_are_told_apart(tiny_build):
    file = tiny_build.bundle / "engines" / "onnx-cpu" / "model.onnx"
    assert "--engine: " in invoke("bench", file, "--engine", "onnx-cpu").stderr
    assert "--range: " in invoke("bench", tiny_build.bundle, "--range", "255").stderr
    result = invoke("bench", file, "--input-size", "0")
    assert (result.exit_code, "--input-size 0 is not a size such as 224" in result.stderr) == (2, True)
