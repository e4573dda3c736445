"""An opened bundle: every byte is checked as it is read, and nothing is ever executed or unpickled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tscnc_deploy.bundle.errors import bundle_errors
from tscnc_deploy.bundle.manifest import ARRAYS, MANIFEST, RECIPE, RECORD, TWIN, EngineEntry, Manifest
from tscnc_deploy.bundle.tree import chunks
from tscnc_deploy.errors import BundleError
from tscnc_deploy.names import DENSE
from tscnc_deploy.text import quoted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tscnc_deploy.bundle.evidence import Evidence
    from tscnc_deploy.bundle.withheld import WithheldEvidence
    from tscnc_deploy.engines.base import Engine
    from tscnc_deploy.engines.onnx.differentiable.graph import GraphModule
    from tscnc_deploy.engines.target import Target
    from tscnc_deploy.recipe import Recipe
    from tscnc_deploy.record import BuildRecord, ThreatModel


@dataclass(frozen=True)
class Bundle:
    """An opened bundle, created by `opening.open_bundle`.

    Contents are loaded on first access, and their digests are checked again then: the bytes that are used are the bytes
    that the manifest lists, even if a file was replaced since the bundle was opened.

    Attributes:
        path: Its folder, absolute.
        manifest: Its manifest.
        digest: SHA-256 of the manifest's bytes, which covers all other digests; hexadecimal.
        supplied: The evidence, if its images come from elsewhere, see `with_images`.
    """

    path: Path
    manifest: Manifest
    digest: str
    supplied: Evidence | None = None

    def read(self, path: str, limit: int | None = None) -> bytes:
        """The bytes of one file, checked against the manifest as they are read.

        Args:
            path: Relative to the bundle, as the manifest lists it, such as "report.html".
            limit: Maximum number of bytes; None uses the manifest's.

        Raises:
            BundleError: The manifest does not list the file, it is longer than the limit, or it has changed.
        """
        entry = self.manifest.files.get(path)
        if entry is None:
            msg = f"{self.path}: {MANIFEST} does not list the file {quoted(path)}"
            raise BundleError(msg)
        if limit is not None and entry.bytes > limit:
            msg = f"{self.path}: {path} has {entry.bytes} bytes; at most {limit} are allowed"
            raise BundleError(msg)
        with bundle_errors(self.path):
            return b"".join(chunks(self.path, path, entry))

    @property
    def recipe(self) -> str:
        """The recipe of the build, TOML."""
        try:
            return self.read(RECIPE).decode("utf-8")
        except UnicodeDecodeError:
            msg = f"{self.path}: {RECIPE} is not UTF-8 text"
            raise BundleError(msg) from None

    def load_recipe(self, overrides: Sequence[str] = (), **options: Any) -> Recipe:
        """The recipe of the build, validated; its `data.root` is this version's default unless an argument sets it.

        The bundle must not choose the folder on this machine that data are read from or downloaded to.

        Args:
            overrides: Assignments such as "gates.robust=0.5", see `recipe.file.load_recipe`.
            options: Passed on to it.

        Raises:
            RecipeError: It is not a valid recipe, or the overrides are impossible.
        """
        from tscnc_deploy.recipe import Data
        from tscnc_deploy.recipe.file import load_recipe, parse_assignment

        if options.get("data_root") is None and all(parse_assignment(each)[0] != "data.root" for each in overrides):
            options["data_root"] = Data().root
        return load_recipe(self.path / RECIPE, overrides, text=self.recipe, **options)

    @cached_property
    def threat(self) -> ThreatModel:
        """The threat model that its evaluations were attacked with; what to tell the model's users.

        Raises:
            BundleError: Manifest and record disagree about it.
        """
        from tscnc_deploy.bundle.threat import threat_disagreements

        for disagreement in threat_disagreements(self.manifest.threat, self.record):
            msg = f"{self.path}: its parts disagree about the threat model: {disagreement}"
            raise BundleError(msg)
        return self.manifest.threat

    @property
    def engines(self) -> tuple[str, ...]:
        """Names of the engines in it."""
        return tuple(sorted(self.manifest.engines))

    def entry(self, engine: str) -> EngineEntry:
        """The manifest's entry for an engine.

        Raises:
            BundleError: The engine does not exist.
        """
        if engine not in self.manifest.engines:
            msg = f"{self.path}: engine {quoted(engine)} not found; the bundle has {', '.join(self.engines) or 'none'}"
            raise BundleError(msg)
        return self.manifest.engines[engine]

    def target(self, engine: str) -> Target:
        """The target that an engine was exported for.

        Raises:
            BundleError: The engine does not exist, or its target is damaged.
        """
        from tscnc_deploy.engines.registry import read_exported_target

        with bundle_errors(self.path):
            return read_exported_target(self.path / self.entry(engine).folder, self._read_listed)

    def engine(self, name: str, **options: Any) -> Engine:
        """Opens an engine.

        Args:
            name: One of `engines`.
            options: Passed on to `tscnc_deploy.engines.open_engine`.

        Raises:
            BundleError: The engine does not exist, its files have changed or are damaged, or it is not the one that the
                manifest describes.
            UnavailableError: This machine lacks the hardware or the package to run it.
        """
        from tscnc_deploy.engines import open_engine

        folder = self.entry(name).folder
        with bundle_errors(self.path):
            engine = open_engine(self.path / folder, read=self._read_listed, **options)
        if engine.spec.name != name:
            msg = f"{self.path}: {folder} contains the engine {quoted(engine.spec.name)} instead of {name}"
            raise BundleError(msg)
        self._check_form(folder, engine.spec.input_shape, engine.spec.classes)
        return engine

    @cached_property
    def twin(self) -> GraphModule:
        """The network that the engines were exported from, with gradients; in evaluation mode, on the CPU."""
        return self._open_twin(TWIN)

    def twin_path(self, engine: str) -> str:
        """Path in the bundle of an engine's twin: its own if the engine was completed to 2:4, else the bundle's.

        Raises:
            BundleError: The engine does not exist.
        """
        own = f"{self.entry(engine).folder}/{TWIN}"
        return own if own in self.manifest.files else TWIN

    def twin_of(self, engine: str) -> GraphModule:
        """The network whose gradients are used in attacks on an engine.

        Args:
            engine: One of `engines`.

        Returns:
            The engine's own twin if it was completed to 2:4 and therefore has other weights, else `twin`; in evaluation
            mode, on the CPU.

        Raises:
            BundleError: The engine does not exist, or the twin's file is damaged.
        """
        path = self.twin_path(engine)
        return self.twin if path == TWIN else self._open_twin(path)

    @property
    def evidence(self) -> Evidence:
        """Images, labels, adversarial examples, outcomes, and the record of the build.

        Raises:
            BundleError: It is damaged, or it is `withheld`.
        """
        if self.supplied is not None:
            return self.supplied
        if (withheld := self.withheld) is None:
            return cast("Evidence", self._stored)
        msg = (
            f"{self.path}: contains no images, only digests and indices of {len(withheld.index)} test images; give "
            "the data set with --data-root (and --dataset) to take them from there"
        )
        raise BundleError(msg)

    @property
    def withheld(self) -> WithheldEvidence | None:
        """The evidence of a bundle that does not ship its images, see `with_images`; None otherwise."""
        from tscnc_deploy.bundle.evidence import Evidence

        return None if isinstance(self._stored, Evidence) else self._stored

    @cached_property
    def _stored(self) -> Evidence | WithheldEvidence:
        from tscnc_deploy.bundle.evidence_files import parse_evidence

        record = self.record
        with bundle_errors(self.path):
            return parse_evidence(self.read(ARRAYS), record, self.manifest.model)

    def with_images(self, images: NDArray[np.float32], labels: NDArray[np.int64]) -> Bundle:
        """The same bundle with the evidence images that it withholds, after comparing their digests.

        Args:
            images: All test images that the recipe's data section names, float32 [M, C, H, W] in [0, 1].
            labels: Their labels, int64 [M].

        Raises:
            BundleError: The bundle contains its images, or these are not the ones that were evaluated.
        """
        if (withheld := self.withheld) is None:
            msg = f"{self.path}: contains its evidence images; leave out the data set"
            raise BundleError(msg)
        if images.shape[1:] != (shape := self.manifest.model.input_shape):
            msg = f"{self.path}: takes images {list(shape)}; those of the given data set are {list(images.shape[1:])}"
            raise BundleError(msg)
        with bundle_errors(self.path):
            return replace(self, supplied=withheld.complete(images, labels))

    @cached_property
    def record(self) -> BuildRecord:
        """The record of the build alone, without the arrays of the evidence.

        Raises:
            BundleError: It is damaged, does not match its schema, or has a schema that this version does not know.
        """
        from tscnc_deploy.bundle.evidence_files import parse_record

        with bundle_errors(self.path):
            return parse_record(self.read(RECORD))

    def _open_twin(self, path: str) -> GraphModule:
        from tscnc_deploy.engines.onnx.differentiable import open_twin

        with bundle_errors(self.path):
            twin = open_twin(self.path / path, self._read_listed)
        self._check_form(path, twin.input_shape, twin.classes)
        return twin

    def _check_form(self, path: str, input_shape: tuple[int, int, int], classes: int) -> None:
        model = self.manifest.model
        if (input_shape, classes) != (model.input_shape, len(model.classes)):
            msg = (
                f"{self.path}: {path} is for images {list(input_shape)} and {classes} classes; "
                f"{MANIFEST} says {list(model.input_shape)} and {len(model.classes)}"
            )
            raise BundleError(msg)

    def _read_listed(self, path: Path, limit: int) -> bytes:
        """A `files.Read` for the bundle's own files; the dense file of an engine is its twin's."""
        name = path.relative_to(self.path).as_posix()
        if path.name == DENSE and name not in self.manifest.files:
            name = self.twin_path(path.parent.name)
        return self.read(name, limit)
