"""The manifest: what a bundle says about itself, and the digest of every other file in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from tscnc_deploy import strict_json
from tscnc_deploy.bundle.paths import check_path, parents
from tscnc_deploy.names import TWIN as TWIN
from tscnc_deploy.record import ModelFacts, ThreatModel
from tscnc_deploy.record.facts import Count, Entry
from tscnc_deploy.record.limits import MAX_MANIFEST_ITEMS, MAX_RECORD_BYTES
from tscnc_deploy.record.parts import Text
from tscnc_deploy.record.problems import first_problem
from tscnc_deploy.text import quoted

MANIFEST = "manifest.json"
SCHEMA = "tscnc-bundle/2"
_EARLIER = ("tscnc-bundle/1",)

RECIPE = "recipe.toml"
RECORD = "evidence/evidence.json"
ARRAYS = "evidence/evidence.safetensors"
REPORT = "report.html"
CARD = "README.md"
# In every new bundle; bundles of older versions do not have them.
SBOM = "sbom.cdx.json"
PROVENANCE = "provenance.json"
SCRIPT = "reproduce.sh"
REQUIRED = (RECIPE, TWIN, RECORD, ARRAYS, REPORT, CARD)

# Bounds on the time and the memory that an opened bundle can cost; JSON takes up to forty times its length.
MAX_BYTES = {RECIPE: 1 << 16, RECORD: MAX_RECORD_BYTES, PROVENANCE: 1 << 20, SBOM: 4 << 20}
MAX_FILE_BYTES = 4 << 30
MAX_BUNDLE_BYTES = 16 << 30

BundlePath = Annotated[str, AfterValidator(check_path)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class FileEntry(Entry):
    """One file: its SHA-256 in lower-case hexadecimal digits and its length in bytes."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: Count


class EngineBuild(Entry):
    """How an engine was built that opens only with one version of a library, on some GPUs.

    Attributes:
        library: Such as "tensorrt-rtx".
        version: Version of that library.
        made_for: Compute capabilities of the GPUs it runs on, such as "SM89".
        hardware: Where a TensorRT engine may run: "this-gpu", "same-capability" or "ampere-and-newer".
        gpu: Name of the GPU that it was built on; None if it was built without one.
        workspace_bytes: GPU memory needed in addition to its weights; None if unknown.
        timing_cache: SHA-256 of the builder's timing cache; None if it used none.
        precisions: Precision of each convolution and linear layer as the library reports it, by its weight's name.
        fits_2_4: Layers whose zeros sparse tensor cores can skip.
        sparse_kernels: Layers whose zeros are skipped, as the library reports it.
    """

    library: Text
    version: Text
    made_for: tuple[Text, ...] = Field(strict=False, max_length=100)
    hardware: Text
    gpu: Text | None
    workspace_bytes: Count | None
    timing_cache: str | None = Field(pattern=r"^[0-9a-f]{64}$")
    precisions: dict[Text, Text] = Field(max_length=10_000)
    fits_2_4: tuple[Text, ...] = Field(strict=False, max_length=10_000)
    sparse_kernels: tuple[Text, ...] = Field(strict=False, max_length=10_000)


class EngineEntry(Entry):
    """One exported engine.

    Attributes:
        folder: Its folder in the bundle, "engines/TARGET".
        kind: What runs it, such as "onnxruntime".
        precision: Precision of its arithmetic, read back from the exported file, such as "fp32".
        attacked: Whether it was run and attacked during the build; otherwise there is no evidence for it.
        unavailable: Why it was not attacked; None if it was.
        build: How it was built, if it opens only in some environments.
    """

    folder: BundlePath
    kind: Text
    precision: Text
    attacked: bool
    unavailable: str | None = Field(None, max_length=10_000)
    build: EngineBuild | None = None


class Contents(Entry):
    """The part of the manifest that a build provides; `seal` adds the rest.

    Attributes:
        name: Name of the bundle.
        model: The network.
        threat: The threat model.
        engines: The exported engines, by target name.
        passed: Whether every gate of the recipe was passed.
    """

    name: Name
    model: ModelFacts
    threat: ThreatModel
    engines: dict[Name, EngineEntry]
    passed: bool


class Manifest(Contents):
    """A complete manifest.

    Attributes:
        schema_name: Name of the bundle format; the key "schema" in the file.
        files: Every file of the bundle except the manifest, by its path relative to the bundle.
        tscnc_deploy: Version of this package that sealed the bundle.
    """

    schema_name: Literal["tscnc-bundle/2"] = Field("tscnc-bundle/2", alias="schema")
    files: dict[BundlePath, FileEntry]
    tscnc_deploy: Text

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if itself := [path for path in self.files if path.lower() == MANIFEST]:
            msg = f"files lists {itself[0]} itself"
            raise ValueError(msg)
        _refuse_colliding(self.files)
        _refuse_huge(self.files)
        if missing := [path for path in REQUIRED if path not in self.files]:
            msg = f"files does not list {missing[0]}, which every bundle holds"
            raise ValueError(msg)
        for name, engine in self.engines.items():
            if engine.folder != f"engines/{name}":
                msg = f"engines.{name}.folder is {engine.folder!r}; it must be 'engines/{name}'"
                raise ValueError(msg)
            if not any(path.startswith(f"{engine.folder}/") for path in self.files):
                msg = f"files lists nothing in {engine.folder}, the folder of the engine {name}"
                raise ValueError(msg)
        return self

    def to_bytes(self) -> bytes:
        """The manifest as it is written to disk; the same manifest always gives the same bytes."""
        return strict_json.dumps(self.model_dump(mode="json", by_alias=True))


def parse_manifest(data: bytes) -> Manifest:
    """Reads a manifest from an untrusted source.

    Args:
        data: At most `MAX_MANIFEST_BYTES` bytes of JSON.

    Raises:
        ValueError: Ambiguous or invalid JSON, a schema that this version does not know, a missing, unknown or invalid
            key, or a path that could leave the bundle. The message continues a sentence that names the manifest.
    """
    document = strict_json.loads(data, max_items=MAX_MANIFEST_ITEMS)
    if not isinstance(document, dict):
        msg = "is not a JSON object"
        raise ValueError(msg)
    schema = document.get("schema")
    if schema in _EARLIER:
        msg = f"has the schema {schema}, so an earlier version made the bundle; build it again (this version: {SCHEMA})"
        raise ValueError(msg)
    if schema != SCHEMA:
        said = quoted(schema) if isinstance(schema, str) else "missing or not a string"
        msg = f"has a schema that this version does not know: it is {said}; the known schema is {SCHEMA}"
        raise ValueError(msg)
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        msg = f"has a wrong entry: {first_problem(error)}"
        raise ValueError(msg) from None


def _refuse_huge(files: Mapping[str, FileEntry]) -> None:
    for path, entry in files.items():
        limit = MAX_BYTES.get(path, MAX_FILE_BYTES)
        if entry.bytes > limit:
            msg = f"files.{path}.bytes is {entry.bytes}; at most {limit} are allowed"
            raise ValueError(msg)
    if (total := sum(entry.bytes for entry in files.values())) > MAX_BUNDLE_BYTES:
        msg = f"files come to {total} bytes; at most {MAX_BUNDLE_BYTES} are allowed"
        raise ValueError(msg)


def _refuse_colliding(paths: Iterable[str]) -> None:
    # Names that differ only in case are one file on some systems and two on others.
    seen: dict[str, str] = {}
    for path in paths:
        for name in (*parents(path), path):
            other = seen.setdefault(name.lower(), name)
            if other != name:
                msg = f"files lists {other!r} and {name!r}, which are the same file on systems that ignore case"
                raise ValueError(msg)
