import errno
import json
import shutil

import pytest
from filelock import FileLock

from tests.pipeline.silent import Silent
from tscnc_deploy.errors import StorageError
from tscnc_deploy.pipeline.run import Run
from tscnc_deploy.pipeline.stages.base import Stage
from tscnc_deploy.recipe import Recipe


class First(Stage):
    """Writes the sparsity, and a note that nobody reads."""

    name = "first"

    def __init__(self):
        self.runs = 0
        self.note = "a"
        self.fail_with = None

    def settings(self, recipe):
        return {"sparsity": recipe.prune.sparsity}

    def run(self, context):
        self.runs += 1
        (context.work / "checkpoint").write_text("kept")
        if self.fail_with is not None:
            raise self.fail_with
        (context.out / "value.txt").write_text(str(context.recipe.prune.sparsity))
        (context.out / "note.txt").write_text(self.note)


class Second(Stage):
    """Copies what the first wrote."""

    name = "second"
    reads = {"first": ("value.txt",)}  # noqa: RUF012

    def __init__(self):
        self.runs = 0

    def settings(self, recipe):
        return {}

    def run(self, context):
        self.runs += 1
        (context.out / "copy.txt").write_text((context.inputs["first"] / "value.txt").read_text())


@pytest.fixture
def stages():
    return First(), Second()


@pytest.fixture
def run(tmp_path, stages):
    run = Run(tmp_path / "run", stages, device="cpu", device_class="cpu")
    run.prepare(1)
    return run


def recipe(sparsity=0.5):
    return Recipe.model_validate({"name": "r", "prune": {"sparsity": sparsity}})


def cached(results):
    return [result.cached for result in results]


def test_a_second_build_runs_nothing(run, stages):
    assert cached(run.build(recipe(), Silent())) == [False, False]
    assert cached(run.build(recipe(), Silent())) == [True, True]
    assert [stage.runs for stage in stages] == [1, 1]


def test_a_changed_setting_runs_the_stage_and_what_follows(run):
    run.build(recipe(), Silent())
    assert cached(run.build(recipe(0.9), Silent())) == [False, False]
    assert (run.outputs("second") / "copy.txt").read_text() == "0.9"


def test_what_reads_other_files_is_not_run_again(run, stages):
    run.build(recipe(), Silent())
    stages[0].note = "b"
    (run.folder / "stages" / "first.json").unlink()
    assert cached(run.build(recipe(), Silent())) == [False, True]


@pytest.mark.parametrize("damage", ["change", "remove", "add"])
def test_a_damaged_output_is_made_again(run, damage):
    run.build(recipe(), Silent())
    path = run.outputs("first") / "value.txt"
    if damage == "change":
        path.write_text("0.7")
    elif damage == "remove":
        path.unlink()
    else:
        (path.parent / "extra.txt").write_text("")
    assert cached(run.build(recipe(), Silent())) == [False, True]
    assert path.read_text() == "0.5"


def test_a_record_that_is_no_json_means_running_again(run):
    run.build(recipe(), Silent())
    (run.folder / "stages" / "first.json").write_text('{"fingerpr')
    assert cached(run.build(recipe(), Silent())) == [False, True]


def test_another_device_class_is_another_fingerprint(run, stages):
    run.build(recipe(), Silent())
    other = Run(run.folder, stages, device="cuda", device_class="cuda:H200")
    assert other.plan(recipe()) == [("first", False), ("second", False)]


def test_the_plan_tells_what_is_done_and_runs_nothing(run, stages):
    assert run.plan(recipe()) == [("first", False), ("second", False)]
    run.build(recipe(), Silent())
    assert run.plan(recipe()) == [("first", True), ("second", True)]
    assert run.plan(recipe(0.9)) == [("first", False), ("second", False)]
    assert [stage.runs for stage in stages] == [1, 1]


def test_an_interrupted_stage_leaves_its_checkpoint_and_no_output(run, stages):
    stages[0].fail_with = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run.build(recipe(), Silent())
    assert (run.folder / "stages" / "first.work" / "checkpoint").read_text() == "kept"
    assert not run.outputs("first").exists()
    stages[0].fail_with = None
    run.build(recipe(), Silent())
    assert not (run.folder / "stages" / "first.work").exists()


def test_a_checkpoint_of_other_settings_is_not_used(run, stages):
    stages[0].fail_with = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run.build(recipe(0.4), Silent())
    (run.folder / "stages" / "first.work" / "other").write_text("of 0.4")
    with pytest.raises(KeyboardInterrupt):
        run.build(recipe(0.5), Silent())
    assert not (run.folder / "stages" / "first.work" / "other").exists()


def test_two_builds_in_one_folder_are_refused(run):
    with FileLock(run.folder / "lock"), pytest.raises(StorageError, match="another build is using this run directory"):
        run.build(recipe(), Silent())


def test_a_file_in_place_of_the_folder_is_refused(tmp_path, stages):
    (tmp_path / "file").write_text("")
    run = Run(tmp_path / "file", stages, device="cpu", device_class="cpu")
    with pytest.raises(StorageError, match=r"--out .*file is a file; give a folder"):
        run.prepare(1)


def test_a_folder_below_a_file_is_refused(tmp_path, stages):
    (tmp_path / "file").write_text("")
    run = Run(tmp_path / "file" / "run", stages, device="cpu", device_class="cpu")
    with pytest.raises(StorageError, match="give --out a writable folder"):
        run.prepare(1)


def test_too_little_space_is_said_before_anything_runs(run):
    with pytest.raises(StorageError, match=r"GB are free, this build writes up to 1000000000\.00 GB more"):
        run.prepare(10**18)


def test_a_full_disk_is_a_message(run, stages):
    stages[0].fail_with = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(StorageError, match="no space left; free some and run the same command again"):
        run.build(recipe(), Silent())


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EIO])
def test_a_refused_file_of_the_run_is_a_message(run, stages, code):
    stages[0].fail_with = OSError(code, "refused", str(run.folder / "stages" / "first.partial" / "value.txt"))
    with pytest.raises(StorageError, match=r"value\.txt: refused; give --out a writable folder"):
        run.build(recipe(), Silent())


def test_a_full_disk_is_a_message_when_a_file_is_written_atomically(run, stages):
    stages[0].fail_with = StorageError("value.txt: cannot be written: No space left on device")
    stages[0].fail_with.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(StorageError, match="no space left; free some and run the same command again"):
        run.build(recipe(), Silent())


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        TimeoutError("timed out"),
        PermissionError(errno.EACCES, "Permission denied", "/data/cifar10/train.bin"),
        OSError(errno.ENOSPC, "No space left on device", "/dev/shm/torch_7"),
        OSError(errno.EIO, "Input/output error"),
        StorageError("/data/cache: cannot be written: Permission denied"),
    ],
)
def test_an_error_that_is_not_about_the_run_keeps_its_class_and_its_words(run, stages, error):
    stages[0].fail_with = error
    with pytest.raises(type(error)) as caught:
        run.build(recipe(), Silent())
    assert caught.value is error


def test_records_name_every_output_by_digest(run):
    run.build(recipe(), Silent())
    record = json.loads((run.folder / "stages" / "second.json").read_text())
    assert record["outputs"] == {"copy.txt": "d2cbad71ff333de67d07ec676e352ab7f38248eb69c942950157220607c55e84"}


def test_a_stage_that_another_run_finished_is_copied(tmp_path, stages, run):
    run.build(recipe(), Silent())
    other = Run(tmp_path / "other", stages, device="cpu", device_class="cpu", donors=[run.folder])
    other.prepare(1)
    assert cached(other.build(recipe(), Silent())) == [True, True]
    assert (stages[0].runs, stages[1].runs) == (1, 1)
    assert (other.outputs("second") / "copy.txt").read_text() == "0.5"
    assert cached(other.build(recipe(0.25), Silent())) == [False, False]


def test_a_damaged_stage_of_another_run_is_not_copied(tmp_path, stages, run):
    run.build(recipe(), Silent())
    (run.outputs("first") / "value.txt").write_text("0.75")
    other = Run(tmp_path / "other", stages, device="cpu", device_class="cpu", donors=[run.folder, tmp_path / "missing"])
    other.prepare(1)
    assert cached(other.build(recipe(), Silent())) == [False, True]
    assert (other.outputs("first") / "value.txt").read_text() == "0.5"


def test_a_stage_that_changes_while_it_is_copied_is_not_used(tmp_path, stages, run, monkeypatch):
    run.build(recipe(), Silent())
    other = Run(tmp_path / "other", stages, device="cpu", device_class="cpu", donors=[run.folder])
    other.prepare(1)
    copytree = shutil.copytree

    def copy_after_a_change(source, target, **options):
        (source / "value.txt").write_text("0.75")
        return copytree(source, target, **options)

    monkeypatch.setattr(shutil, "copytree", copy_after_a_change)
    assert other._copied(stages[0], other._fingerprint(stages[0], recipe(), {})) is None
    assert not other.outputs("first").exists()
    monkeypatch.undo()
    assert cached(other.build(recipe(), Silent())) == [False, True]
    assert (other.outputs("first") / "value.txt").read_text() == "0.5"
