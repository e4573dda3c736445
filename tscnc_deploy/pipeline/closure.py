"""The files and packages that a module depends on, found by following its imports.

Imports inside functions count too. Imports under `if TYPE_CHECKING:` do not run and do not count,
except in a package with a module-level `__getattr__`, which imports those names on first use.

A package's `__init__.py` counts only when a name is imported from it. It also runs when one of its modules is imported,
but it only re-exports, and counting it would make every module depend on all of its siblings.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent

# Modules that no output depends on; they are neither counted nor followed.
IGNORED = frozenset(
    {
        # Exception classes. Their messages are not written to any file.
        "tscnc_deploy.errors",
        # The schema of recipes. A stage's settings contain the parsed values, so a reworded description or a wider
        # bound does not cause retraining. `recipe.file`, which writes recipes into bundles, counts.
        "tscnc_deploy.recipe",
        "tscnc_deploy.recipe.problems",
        "tscnc_deploy.recipe.pruning",
        "tscnc_deploy.recipe.section",
        "tscnc_deploy.recipe.training",
        "tscnc_deploy.recipe.values",
    }
)
# Modules that a file imports by a computed name, without an import statement.
IMPORTED_BY_NAME = {
    "engines/tensorrt/library.py": frozenset({"tensorrt", "tensorrt_rtx"}),
    # The code of a network that is not built in is part of the fingerprint by itself, and only of its own builds.
    **dict.fromkeys(("models/libraries.py", "models/own.py", "models/plain.py"), frozenset[str]()),
}
# Sources of compiled code, and the library built from them: a wheel holds only the library.
_NATIVE = frozenset({".cpp", ".hpp", ".h", ".inc", ".so"})


@dataclass(frozen=True)
class Closure:
    """The dependencies of a module.

    Attributes:
        files: Sources of this package and its compiled code, sorted.
        packages: Top-level names of everything else that is imported, including the standard library.
    """

    files: tuple[Path, ...]
    packages: frozenset[str]


@cache
def closure(start: Path, package: Path = PACKAGE) -> Closure:
    """Follows the imports of a Python file.

    Args:
        start: The file; it may be outside the package.
        package: Folder of the package whose modules are followed.
    """
    found, waiting = {start}, [start]
    packages: set[str] = set()
    while waiting:
        path = waiting.pop()
        modules, others = _imports(path, package)
        packages |= others
        new = modules - found
        found |= new
        waiting += new
    compiled = {native for path in found for native in _compiled(path, package)}
    return Closure(tuple(sorted(found | compiled)), frozenset(packages))


@cache
def _imports(path: Path, package: Path) -> tuple[frozenset[Path], frozenset[str]]:
    """The files of the package that a file imports, and the top-level names of everything else."""
    tree = ast.parse(path.read_bytes(), path)
    lazy = any(isinstance(statement, ast.FunctionDef) and statement.name == "__getattr__" for statement in tree.body)
    modules: set[Path] = set()
    others: set[str] = set()
    for statement in _statements(tree.body, typing=lazy):
        if isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom) and statement.level == 0 and statement.module:
            names = [
                inner if _file(inner := f"{statement.module}.{alias.name}", package) else statement.module
                for alias in statement.names
            ]
        else:
            continue
        for name in names:
            if name.partition(".")[0] != package.name:
                others.add(name.partition(".")[0])
            elif name not in IGNORED and (file := _file(name, package)):
                modules.add(file)
    if path.is_relative_to(package):
        others |= IMPORTED_BY_NAME.get(path.relative_to(package).as_posix(), frozenset())
    return frozenset(modules), frozenset(others)


def _statements(body: list[ast.stmt], *, typing: bool) -> Iterator[ast.stmt]:
    """All statements at any depth; expressions are skipped because they contain no imports and most of the nodes.

    Args:
        body: The statements to start from.
        typing: Whether to include those under `if TYPE_CHECKING:`.
    """
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.stmt):
            yield node
        if isinstance(node, ast.If) and _is_typing(node.test) and not typing:
            waiting += node.orelse
            continue
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            inner = getattr(node, field, ())
            # The body of a conditional expression is not a list of statements.
            waiting += inner if isinstance(inner, list) else ()


def _is_typing(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


@cache
def _file(module: str, package: Path) -> Path | None:
    """The source of a module of the package; None if the module does not exist."""
    top, *parts = module.split(".")
    if top != package.name:
        return None
    path = package.joinpath(*parts)
    candidates = path / "__init__.py", path.with_suffix(".py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _compiled(path: Path, package: Path) -> Iterator[Path]:
    """Compiled code, and its sources, in the folder of a file of the package that loads libraries with ctypes."""
    if path.is_relative_to(package) and "ctypes" in _imports(path, package)[1]:
        yield from (file for file in path.parent.rglob("*") if file.suffix in _NATIVE)
