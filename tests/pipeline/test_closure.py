from __future__ import annotations

import ast

import pytest

from tests.pipeline.test_fingerprint import STAGE_FILES
from tscnc_deploy.pipeline.closure import IMPORTED_BY_NAME, PACKAGE, closure


@pytest.fixture
def package(tmp_path):
    """Writes a package `shop` from sources by path; gives its folder."""

    def write(**sources):
        folder = tmp_path / "shop"
        for name, text in {"__init__": "", **sources}.items():
            path = folder / (name.replace(".", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return folder

    return write


def reached(folder, start):
    found = closure(folder / start, folder)
    return {path.relative_to(folder).as_posix() for path in found.files} - {start}, set(found.packages)


def test_imports_are_followed_from_file_to_file(package):
    folder = package(
        start="import shop.a\nfrom shop.b import thing\n",
        a="from shop import c\nimport numpy.linalg\n",
        b="from os import path\n",
        c="import shop.a\n",
        unused="import torch\n",
    )
    assert reached(folder, "start.py") == ({"a.py", "b.py", "c.py"}, {"numpy", "os"})


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    import shop.a",
        "class C:\n    async def f(self):\n        from shop.a import x",
        "try:\n    import shop.a\nexcept ImportError:\n    pass",
        "try:\n    pass\nexcept ImportError:\n    import shop.a",
        "try:\n    pass\nfinally:\n    import shop.a",
        "if True:\n    pass\nelif False:\n    from shop import a",
        "with open('f') as f:\n    import shop.a as b",
        "match 1:\n    case 2:\n        for i in ():\n            while True:\n                import shop.a",
        "if TYPE_CHECKING:\n    pass\nelse:\n    import shop.a",
    ],
)
def test_imports_count_at_any_depth(package, text):
    assert reached(package(start=text, a=""), "start.py")[0] == {"a.py"}


def test_imports_for_types_do_not_count(package):
    folder = package(
        start="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n    from shop import a\n", a=""
    )
    assert reached(folder, "start.py") == (set(), {"typing"})


def test_a_package_that_imports_on_first_use_names_its_imports_for_types(package):
    lazy = "if TYPE_CHECKING:\n    from shop.lazy.a import thing\ndef __getattr__(name):\n    ...\n"
    folder = package(**{"start": "from shop import lazy\n", "lazy.__init__": lazy, "lazy.a": "import scipy\n"})
    assert reached(folder, "start.py") == ({"lazy/__init__.py", "lazy/a.py"}, {"scipy"})


def test_a_package_counts_where_a_name_is_taken_from_it_and_not_where_a_module_is(package):
    sources = {"inner.__init__": "from shop.inner.b import thing\n", "inner.a": "", "inner.b": ""}
    by_name = package(start="from shop.inner import thing\n", **sources)
    assert reached(by_name, "start.py")[0] == {"inner/__init__.py", "inner/b.py"}
    by_module = package(other="from shop.inner.a import x\nfrom shop.inner import a\nimport shop.inner.a\n", **sources)
    assert reached(by_module, "other.py")[0] == {"inner/a.py"}


def test_compiled_code_belongs_to_the_file_that_loads_it(package):
    folder = package(**{"core.latency": "", "core.library": "import ctypes\n"})
    for name in ("core/_core.so", "core/csrc/plan.cpp", "core/csrc/plan.hpp", "core/csrc/notes.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("")
    assert reached(folder, "core/library.py")[0] == {"core/_core.so", "core/csrc/plan.cpp", "core/csrc/plan.hpp"}
    assert reached(folder, "core/latency.py")[0] == set()


def sources():
    return sorted(path for path in PACKAGE.rglob("*.py") if "_shipped" not in path.parts)


@pytest.mark.parametrize("path", [path for path in sources() if path.name == "__init__.py"], ids=str)
def test_packages_do_nothing_on_import_but_define_and_import(path):
    """Their `__init__.py` may be left out where only a module of theirs is imported."""
    harmless = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.ClassDef)
    for statement in ast.parse(path.read_text()).body:
        typing = isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"
        docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        assert isinstance(statement, harmless) or typing or docstring, ast.unparse(statement)


def test_every_import_by_a_computed_name_is_known():
    """`import_module` hides what is imported; a stage may reach it only where the closure knows what it imports."""
    reached = {path for start in STAGE_FILES.values() for path in closure(start).files if path.suffix == ".py"}
    computed = {
        path.relative_to(PACKAGE).as_posix()
        for path in reached
        if any(name in path.read_text() for name in ("import_module(", "__import__(", "exec(", "run_module("))
    }
    lazy = {name for name in computed if "def __getattr__" in (PACKAGE / name).read_text()}
    assert computed - lazy == set(IMPORTED_BY_NAME)


def test_no_import_is_relative():
    """They would not be followed."""
    relative = [
        path.name
        for path in sources()
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []
