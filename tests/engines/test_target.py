from __future__ import annotations

import pytest

from tscnc_deploy.engines.target import list_targets, load_target, read_target, write_target
from tscnc_deploy.errors import InputError, RecipeError


def test_shipped_targets_are_listed_by_name():
    listed = {target.name: (target.engine, target.provider, target.precision) for target in list_targets()}
    assert listed["onnx-cpu"] == ("onnxruntime", "CPUExecutionProvider", "fp32")
    assert listed["onnx-cuda"] == ("onnxruntime", "CUDAExecutionProvider", "fp32")
    assert listed["sparse-cpu"] == ("sparse-cpu", "CPUExecutionProvider", "fp32")
    assert list(listed) == sorted(listed)


def test_a_users_file_is_named_by_itself_and_defaults_fill_the_rest(tmp_path):
    file = tmp_path / "edge-box.toml"
    file.write_text("batch_max = 8\ntolerance = 1")
    target = load_target(file)
    assert (target.name, target.batch_min, target.batch_example, target.batch_max) == ("edge-box", 1, 2, 8)
    assert (target.sparse, target.tolerance) == (True, 1.0)


def test_an_unknown_target_is_refused_with_a_suggestion():
    with pytest.raises(RecipeError, match=r"target onx-cpu is not .*; did you mean onnx-cpu\?"):
        load_target("onx-cpu")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RecipeError, match=r"nowhere\.toml: cannot be read: No such file"):
        load_target(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch_mx = 4", "batch_mx is not a key of a target; did you mean batch_max?"),
        ("zzz = 4", "zzz is not a key of a target; write description, engine"),
        ('name = "x"', "name is not a key of a target"),
        (
            'engine = "onnxrumtime"',
            'engine = "onnxrumtime" is not "onnxruntime", "tensorrt", "tensorrt-rtx" or "sparse-cpu"; '
            "did you mean onnxruntime?",
        ),
        ('instructions = "avx"', 'instructions = "avx" is not'),
        ('instructions = "avx2"', "instructions is only for sparse-cpu"),
        ('engine = "sparse-cpu"\nprovider = "CUDAExecutionProvider"', "provider is only for onnxruntime"),
        ('sparse = "yes"', 'sparse = "yes" is not true or false'),
        ('batch_max = "8"', 'batch_max = "8" is not a whole number; write it without quotes'),
        ("batch_max = 0", "batch_max = 0 is not at least 1"),
        ("batch_example = 1", "batch_example = 1 is not at least 2"),
        ("batch_min = 9\nbatch_max = 8", "batch_min = 9 exceeds batch_max = 8"),
        (
            'batch_max = 8\nbatch_opt = 9\nengine = "tensorrt"',
            "batch_opt = 9 is not between batch_min = 1 and batch_max = 8",
        ),
        ('engine = "tensorrt-rtx"\ncapabilities = ["sm80"]', 'capabilities[0] = "sm80" is not a compute capability'),
        ('engine = "tensorrt-rtx"\ncapabilities = ["SM80", "SM80"]', 'contains "SM80" twice'),
        (
            'capabilities = ["SM80"]',
            'capabilities is only for tensorrt-rtx; remove it for engine = "onnxruntime"',
        ),
        ('engine = "tensorrt"\nprovider = "CUDAExecutionProvider"', "provider is only for onnxruntime"),
        ("regrow = true", 'complete_epochs and regrow need complete = "2:4"'),
        ('complete = "2:4"\nregrow = true', "regrow = true needs complete_epochs of at least 1"),
        ("portable = true", 'portable is only for tensorrt or tensorrt-rtx; remove it for engine = "onnxruntime"'),
        ('precision = "fp16"', 'precision = "fp16" requires TensorRT'),
        ("tolerance = 0.0", "tolerance = 0.0 is not above 0"),
        ("tolerance = nan", "tolerance = nan is not a finite number"),
        ("tolerance = ", "is not TOML"),
        ("a = " + "[" * 100_000, "is not TOML"),
    ],
)
def test_what_is_wrong_is_said_with_file_key_and_value(tmp_path, text, message):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(RecipeError) as refused:
        load_target(file)
    assert str(refused.value).startswith(f"{file}: ")
    assert message in str(refused.value)


def test_every_problem_has_a_line_of_its_own(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("batch_mx = 4\nsparse = 1\ntolerance = -1.0")
    with pytest.raises(RecipeError) as refused:
        load_target(file)
    assert len(str(refused.value).splitlines()) == 3


@pytest.mark.parametrize("name", ["twin", "my target", "-x", "a" * 101])
def test_names_that_a_bundle_cannot_hold_are_refused(tmp_path, name):
    file = tmp_path / f"{name}.toml"
    file.write_text("")
    with pytest.raises(RecipeError):
        load_target(file)


def test_a_target_is_read_back_from_json(tmp_path):
    target = load_target("onnx-cuda")
    write_target(target, tmp_path / "target.json")
    assert read_target(tmp_path / "target.json") == target


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "x", "rm": 1}', '{"name": "../x"}', "[" * 100_000, "\xff"])
def test_a_damaged_json_is_refused(tmp_path, text):
    (tmp_path / "target.json").write_text(text, "latin-1")
    with pytest.raises(InputError, match=r"target\.json: "):
        read_target(tmp_path / "target.json")


@pytest.mark.parametrize(
    ("text", "optimal"), [("", 32), ("batch_max = 8", 8), ("batch_min = 64", 64), ("batch_opt = 5", 5)]
)
def test_the_batch_that_kernels_are_chosen_for_lies_within_the_bounds(tmp_path, text, optimal):
    (tmp_path / "mine.toml").write_text(f'engine = "tensorrt"\n{text}')
    assert load_target(tmp_path / "mine.toml").optimal_batch == optimal
