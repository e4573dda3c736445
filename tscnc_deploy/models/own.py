"""Networks from the user's own code: "FILE.py:FUNCTION" or "PACKAGE.MODULE:FUNCTION".

The code is run as what it is, the user's. So it is only ever named by whoever runs the command: a bundle carries no
code, and no command takes a callable from a bundle's recipe.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from tscnc_deploy.arch import Arch
from tscnc_deploy.digests import digest_of_chunks, digest_of_file
from tscnc_deploy.errors import InputError
from tscnc_deploy.models.config import ModelConfig
from tscnc_deploy.text import did_you_mean, escaped
from tscnc_deploy.versions import installed_version


def own_network(config: ModelConfig) -> nn.Module:
    """What the user's callable returns for (classes, input_shape, **args).

    Raises:
        InputError: There is no such file, module or callable; it raises an exception, or returns no module.
    """
    network = config.network
    with _neighbours_first(network):
        return _made(config, _callable(network))


def _made(config: ModelConfig, make: Callable[..., Any]) -> nn.Module:
    try:
        made = make(config.classes, config.input_shape, **config.args)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        msg = f"{_called(config)} raised {_said(error)}"
        raise InputError(msg) from error
    if not isinstance(made, nn.Module):
        msg = f"{_called(config)} returned {type(made).__name__}; it must return a torch.nn.Module"
        raise InputError(msg)
    return made


def code_digest(network: Arch) -> dict[str, Any]:
    """What identifies the user's code: the digest of its source, and the version of an installed package.

    Returns:
        "sha256" of the file and the files beside it that it imports, or of all Python files of the module's top-level
        package; "distribution" and "version" if that is installed.

    Raises:
        InputError: There is no such file or module.
    """
    if network.source == "file":
        return {"sha256": _digest_of(sorted(_with_neighbours(_existing(network))))}
    top = network.place.partition(".")[0]
    found = _spec(top, network)
    if found.submodule_search_locations:
        files = sorted(file for place in found.submodule_search_locations for file in Path(place).rglob("*.py"))
    else:
        files = sorted(_with_neighbours(Path(found.origin).resolve())) if found.origin else []
    distribution = next(iter(packages_distributions().get(top, ())), None)
    version = installed_version(distribution) if distribution else None
    return {"sha256": _digest_of(files), "distribution": distribution, "version": version}


def _callable(network: Arch) -> Callable[..., Any]:
    module = _from_file(network) if network.source == "file" else _imported(network)
    found = getattr(module, network.name, None)
    if found is None:
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        hint = did_you_mean(network.name, names)
        msg = f"model.arch = {network.public!r}: {network.place} has no {network.name}{hint}"
        raise InputError(msg)
    if not callable(found):
        msg = f"model.arch = {network.public!r}: {network.name} is {type(found).__name__}, not a callable"
        raise InputError(msg)
    made: Callable[..., Any] = found
    return made


@contextmanager
def _neighbours_first(network: Arch) -> Iterator[None]:
    """Context in which a file's imports find the files beside it, which are those that its digest covers.

    An installed module of that name, or one beside another file, is there again afterwards.
    """
    if network.source != "file":
        yield
        return
    path = _existing(network)
    folder = path.parent
    names = {file.relative_to(folder).parts[0].removesuffix(".py") for file in _with_neighbours(path) - {path}}
    hidden = {
        name: module
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in names and not _is_in(module, folder)
    }
    for name in hidden:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        # For what the network imports when it is run.
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
        sys.modules.update(hidden)


def _is_in(module: ModuleType, folder: Path) -> bool:
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return any(place is not None and Path(place).resolve().is_relative_to(folder) for place in places)


def _existing(network: Arch) -> Path:
    path = Path(network.place).resolve()
    if not path.is_file():
        msg = f"model.arch = '{network.place}:{network.name}': there is no file {network.place}"
        raise InputError(msg)
    return path


def _from_file(network: Arch) -> ModuleType:
    path = _existing(network)
    # Named by its path: two files of one name are two modules, and pickles of its classes would not be found by chance.
    name = f"_tscnc_own_{digest_of_chunks([str(path).encode()])[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        del sys.modules[name]
        msg = f"model.arch = {network.public!r}: {network.place} cannot be imported: {_said(error)}"
        raise InputError(msg) from error
    return module


def _imported(network: Arch) -> ModuleType:
    _spec(network.place.partition(".")[0], network)
    try:
        return importlib.import_module(network.place)
    except Exception as error:  # the user's code may raise anything
        msg = f"model.arch = {network.public!r}: {network.place} cannot be imported: {_said(error)}"
        raise InputError(msg) from error


def _spec(top: str, network: Arch) -> Any:
    try:
        found = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        found = None
    if found is None:
        msg = (
            f"model.arch = {network.public!r}: there is no installed package {top}; "
            "for code that is not installed, write FILE.py:FUNCTION"
        )
        raise InputError(msg)
    return found


def _with_neighbours(path: Path) -> set[Path]:
    """A file and the files of its folder that it imports, directly or not."""
    found, waiting = {path}, [path]
    while waiting:
        for file in _neighbours(waiting.pop(), path.parent):
            if file not in found:
                found.add(file)
                waiting.append(file)
    return found


def _neighbours(path: Path, folder: Path) -> Iterator[Path]:
    try:
        tree = ast.parse(path.read_bytes(), path)
    except (SyntaxError, ValueError):
        return  # refused with its reason when it is imported
    for statement in ast.walk(tree):
        names = [alias.name for alias in statement.names] if isinstance(statement, ast.Import) else []
        if isinstance(statement, ast.ImportFrom) and statement.module:
            names.append(statement.module)
        for top in {name.partition(".")[0] for name in names}:
            if (file := folder / f"{top}.py").is_file():
                yield file.resolve()
            elif (folder / top).is_dir():
                yield from (inner.resolve() for inner in (folder / top).rglob("*.py"))


def _digest_of(files: list[Path]) -> str:
    """Of the names, not the places, and the contents."""
    return digest_of_chunks(f"{file.name}\0{digest_of_file(file)}\n".encode() for file in files)


def _called(config: ModelConfig) -> str:
    given = "".join(f", {name}={value!r}" for name, value in config.args.items())
    network = config.network
    return f"model.arch = {network.public!r}: {network.name}({config.classes}, {config.input_shape}{given})"


def _said(error: BaseException) -> str:
    said = (str(error).strip() or "without a message").splitlines()[0]
    return f"{type(error).__name__}: {escaped(said, 300)}"
