"""The name of a network, as `model.arch` and --arch take it.

Imports no network: a name is read long before anything is built, also the one that a bundle's recipe holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from tscnc_deploy.errors import InputError
from tscnc_deploy.names import ARCH_FORMS, ARCHITECTURES, LIBRARIES
from tscnc_deploy.text import any_of, did_you_mean

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w{0,99}", re.ASCII)
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_LONGEST = 4096


@dataclass(frozen=True)
class Arch:
    """Where a network comes from.

    Attributes:
        source: "builtin", "torchvision", "timm", or "file" and "module" for the user's own code.
        place: Path of the file, or the dotted name of the module; empty for the others.
        name: Name of the network, or of the function that makes it.
    """

    source: Literal["builtin", "torchvision", "timm", "file", "module"]
    place: str
    name: str

    @property
    def own(self) -> bool:
        """Whether building it runs the user's own code, which is taken from whoever builds, never from a bundle."""
        return self.source in ("file", "module")

    @property
    def public(self) -> str:
        """The name without folders of this machine, as bundles and reports show it."""
        if self.source == "builtin":
            return self.name
        if self.own:
            return f"{PurePath(self.place).name if self.source == 'file' else self.place}:{self.name}"
        return f"{self.source}:{self.name}"

    @property
    def slug(self) -> str:
        """The name as a part of a folder's name."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.public.replace(".py:", "-"))


def parse_arch(text: str) -> Arch:
    """Reads the name of a network.

    Raises:
        InputError: It has none of the forms, or is no built-in network; the message continues a sentence that names it.
            Whether a library, a file or a function exists is found when the network is built.
    """
    place, colon, name = text.rpartition(":")
    if not colon:
        if text in ARCHITECTURES:
            return Arch("builtin", "", text)
        msg = f"is not {any_of((*ARCHITECTURES, *ARCH_FORMS))}{did_you_mean(text, ARCHITECTURES)}"
        raise InputError(msg)
    if place in LIBRARIES:
        if not _NAME.fullmatch(name):
            msg = f"does not name a network of {place}; write {place}:NAME"
            raise InputError(msg)
        return Arch("torchvision" if place == "torchvision" else "timm", "", name)
    if _IDENTIFIER.fullmatch(name) and len(text) <= _LONGEST and "\0" not in text:
        if place.endswith(".py"):
            return Arch("file", place, name)
        if _MODULE.fullmatch(place):
            return Arch("module", place, name)
    msg = f"has none of the forms {any_of(ARCH_FORMS)}"
    raise InputError(msg)
