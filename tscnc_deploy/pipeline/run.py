"""A run: the directory that holds the outputs of the stages of one build.

    DIR/recipe.toml            the resolved recipe
    DIR/stages/NAME/           outputs of a finished stage (those of `package` are DIR/bundle/)
    DIR/stages/NAME.json       its fingerprint, the digests of its outputs, its duration
    DIR/stages/NAME.work/      checkpoint of an interrupted stage
    DIR/stages/NAME.partial/   outputs being written; never read

A stage's folder is moved into place with one rename and counts only once its record exists, so a build that is killed
at any moment leaves a run that the next build can continue.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tscnc_deploy.errors import InputError, StorageError
from tscnc_deploy.files import write_atomic
from tscnc_deploy.pipeline.fingerprint import fingerprint, folder_digests, select
from tscnc_deploy.pipeline.stages.base import Context, Stage, Times, read_json, utc_now, write_json
from tscnc_deploy.progress import Progress
from tscnc_deploy.recipe import Recipe
from tscnc_deploy.recipe.file import to_toml
from tscnc_deploy.threads import thread_count

_NO_SPACE = "no space left; free some"
# EFBIG: the limit on the size of a file, as of `ulimit -f`.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# Errors by which operating systems report that a folder cannot be used.
_REFUSED = _FULL | {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG,
    errno.ENOTDIR,
}  # fmt: skip


@dataclass(frozen=True)
class StageResult:
    """Whether a stage was reused or run, and how long its run took, in seconds."""

    name: str
    cached: bool
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """{"name", "cached", "seconds"}."""
        return {"name": self.name, "cached": self.cached, "seconds": round(self.seconds, 3)}


class Run:
    """A run directory and the stages that fill it.

    Args:
        folder: The directory; created if missing.
        stages: The stages in order; each may read outputs of the earlier ones.
        device: "cpu" or "cuda".
        device_class: Name of the device in fingerprints, such as "cuda:NVIDIA H200".
        donors: Other runs. A stage that one of them has finished with the same fingerprint is copied, not repeated:
            builds that differ only in pruning share one dense training.
    """

    def __init__(
        self, folder: Path, stages: Sequence[Stage], *, device: str, device_class: str, donors: Sequence[Path] = ()
    ) -> None:
        self.folder, self.stages, self.device, self.device_class = folder, stages, device, device_class
        self._donors = [Run(donor, stages, device=device, device_class=device_class) for donor in donors]

    def outputs(self, name: str) -> Path:
        """Folder of a finished stage's outputs."""
        return self.folder / "bundle" if name == "package" else self.folder / "stages" / name

    def plan(self, recipe: Recipe) -> list[tuple[str, bool]]:
        """The name of each stage and whether its outputs can be reused.

        The outputs of a stage that has to run are not known yet, so all later stages are planned to run too. The build
        still reuses a later stage if its inputs turn out to be the same.
        """
        plan = []
        digests: dict[str, Mapping[str, str]] = {}
        fresh = True
        for stage in self.stages:
            record = self._valid_record(stage, self._fingerprint(stage, recipe, digests)) if fresh else None
            fresh = record is not None
            if record is not None:
                digests[stage.name] = record["outputs"]
            plan.append((stage.name, fresh))
        return plan

    def build(self, recipe: Recipe, progress: Progress) -> list[StageResult]:
        """Runs every stage whose outputs cannot be reused, in order.

        Raises:
            StorageError: Another build uses the directory, or it cannot be written.
        """
        results = []
        digests: dict[str, Mapping[str, str]] = {}
        times: dict[str, Times] = {}
        with self._locked():
            with _storage_errors(self.folder):
                write_atomic(self.folder / "recipe.toml", to_toml(recipe))
            for position, stage in enumerate(self.stages, 1):
                key = self._fingerprint(stage, recipe, digests)
                record = self._valid_record(stage, key) or self._copied(stage, key)
                progress.start(stage.name, position, len(self.stages))
                if record is None:
                    record = self._guarded(stage, recipe, key, progress, times)
                    result = StageResult(stage.name, cached=False, seconds=record["seconds"])
                else:
                    # Left behind if the process was killed right after the record was written.
                    _remove(self.folder / "stages" / f"{stage.name}.work")
                    result = StageResult(stage.name, cached=True, seconds=record["seconds"])
                progress.finish(stage.name, cached=result.cached, seconds=result.seconds)
                digests[stage.name] = record["outputs"]
                times[stage.name] = Times(record.get("started"), record["seconds"], record.get("threads"))
                results.append(result)
        return results

    def prepare(self, needed_bytes: int) -> None:
        """Creates the directory and checks that the build will fit, before hours of training.

        Raises:
            StorageError: The path is a file, is not writable, or has too little free space.
        """
        with _storage_errors(self.folder):
            if self.folder.exists() and not self.folder.is_dir():
                msg = f"--out {self.folder} is a file; give a folder for the run"
                raise StorageError(msg)
            (self.folder / "stages").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as probe:
                probe.write(b"probe")
            held = sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
        free, missing = shutil.disk_usage(self.folder).free, max(needed_bytes - held, 0)
        if free < missing:
            msg = (
                f"{self.folder}: {free / 1e9:.2f} GB are free, this build writes up to {missing / 1e9:.2f} GB more; "
                "free some space or give another folder with --out"
            )
            raise StorageError(msg)

    def _fingerprint(self, stage: Stage, recipe: Recipe, digests: Mapping[str, Mapping[str, str]]) -> str:
        inputs = {name: select(digests[name], files) for name, files in stage.reads.items()}
        return fingerprint(stage, recipe, self.device_class, inputs)

    def _record_path(self, stage: Stage) -> Path:
        return self.folder / "stages" / f"{stage.name}.json"

    def _valid_record(self, stage: Stage, key: str) -> dict[str, Any] | None:
        """The stage's record if it has this fingerprint and its outputs are unchanged."""
        try:
            record = read_json(self._record_path(stage))
            valid = record["fingerprint"] == key and folder_digests(self.outputs(stage.name)) == record["outputs"]
        except (OSError, InputError, ValueError, KeyError, TypeError):
            return None
        return record if valid else None

    def _copied(self, stage: Stage, key: str) -> dict[str, Any] | None:
        """The stage's record, after copying its outputs from the first donor that has them; None if there is none."""
        for donor in self._donors:
            if (record := donor._valid_record(stage, key)) is not None:
                with _storage_errors(self.folder):
                    partial = self._partial(stage)
                    shutil.copytree(donor.outputs(stage.name), partial, dirs_exist_ok=True)
                    # A build in the donor may have replaced its outputs after they were checked.
                    if folder_digests(partial) != record["outputs"]:
                        _remove(partial)
                        continue
                    self._publish(stage, partial, record)
                return record
        return None

    def _partial(self, stage: Stage) -> Path:
        """An empty folder for outputs in progress."""
        partial = self.folder / "stages" / f"{stage.name}.partial"
        _remove(partial)
        partial.mkdir(parents=True)
        return partial

    def _publish(self, stage: Stage, partial: Path, record: dict[str, Any]) -> None:
        """Moves finished outputs into place, then writes the record that makes them valid."""
        final = self.outputs(stage.name)
        self._record_path(stage).unlink(missing_ok=True)
        _remove(final)
        _flush(partial)
        partial.rename(final)
        write_json(self._record_path(stage), record)

    def _guarded(
        self, stage: Stage, recipe: Recipe, key: str, progress: Progress, times: Mapping[str, Times]
    ) -> dict[str, Any]:
        with _storage_errors(self.folder):
            try:
                return self._execute(stage, recipe, key, progress, times)
            except FileNotFoundError as error:
                # One of our own files is missing: an internal error, not a problem with the user's disk.
                msg = f"stage {stage.name}: {error}"
                raise RuntimeError(msg) from error

    def _execute(
        self, stage: Stage, recipe: Recipe, key: str, progress: Progress, times: Mapping[str, Times]
    ) -> dict[str, Any]:
        clock, started = time.monotonic(), utc_now()
        partial, work = self._partial(stage), self.folder / "stages" / f"{stage.name}.work"
        _claim(work, key)
        inputs = {name: self.outputs(name) for name in stage.reads}
        cache = self.folder / "cache"
        cache.mkdir(exist_ok=True)
        stage.run(Context(recipe, self.device, inputs, partial, work, progress, cache, times))

        record = {
            "fingerprint": key,
            "outputs": folder_digests(partial),
            "started": started,
            "seconds": time.monotonic() - clock,
            # Sums in another order round differently: this may affect the bytes of outputs, but not their meaning.
            "threads": thread_count(),
        }
        self._publish(stage, partial, record)
        _remove(work)
        return record

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = FileLock(self.folder / "lock", timeout=0)
        try:
            with _storage_errors(self.folder):
                lock.acquire()
        except Timeout as error:
            msg = f"{self.folder}: another build is using this run directory; wait for it, or give another with --out"
            raise StorageError(msg) from error
        try:
            yield
        finally:
            lock.release()


def _claim(work: Path, key: str) -> None:
    """Keeps the checkpoints of an interrupted run with this fingerprint and removes all others."""
    marker = work / "fingerprint"
    if not marker.is_file() or marker.read_text(encoding="utf-8") != key:
        _remove(work)
        work.mkdir(parents=True)
        marker.write_text(key, encoding="utf-8")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush(folder: Path) -> None:
    """Flushes the files to disk before the rename makes them valid."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())


@contextmanager
def _storage_errors(folder: Path) -> Iterator[None]:
    """Adds advice to errors about a run's folder that cannot be written; other errors are raised unchanged.

    Raises:
        StorageError: The folder has no space left, or a file in it cannot be created, read or written.
    """
    try:
        yield
    except Timeout:
        raise
    except (OSError, StorageError) as error:
        cause = error.__cause__ if isinstance(error, StorageError) else error
        if not (isinstance(cause, OSError) and _is_about(folder, cause)):
            raise
        if cause.errno in _FULL:
            what = "a file may not get this large; raise ulimit -f" if cause.errno == errno.EFBIG else _NO_SPACE
            msg = f"{folder}: {what} and run the same command again (finished work is kept)"
        else:
            msg = f"{cause.filename}: {cause.strerror or cause}; give --out a writable folder"
        raise StorageError(msg) from error


def _is_about(folder: Path, error: OSError) -> bool:
    """Whether the error is about a run's folder, not about a connection or a file elsewhere."""
    if not isinstance(error.filename, str | Path):
        # Errors about a full disk do not name a file.
        return error.errno in _FULL
    path, place = Path(os.path.abspath(error.filename)), Path(os.path.abspath(folder))  # noqa: PTH100  (no link is followed)
    # Its parent folders may have to be created, too.
    return error.errno in _REFUSED and (path.is_relative_to(place) or place.is_relative_to(path))
