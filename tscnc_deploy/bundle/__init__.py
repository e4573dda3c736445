"""The bundle: the directory that ships, and how to open one from an untrusted source."""

from tscnc_deploy.bundle.manifest import Contents, EngineEntry, FileEntry, Manifest
from tscnc_deploy.bundle.opening import open_bundle
from tscnc_deploy.bundle.reader import Bundle
from tscnc_deploy.bundle.writer import seal

__all__ = [
    "Bundle",
    "Contents",
    "EngineEntry",
    "FileEntry",
    "Manifest",
    "open_bundle",
    "seal",
]
