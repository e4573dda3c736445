"""What imports what. `lint-imports` holds the layers; here are the circles by file, and what --help may import."""

import os
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]


def circles(graph):
    """The sets of modules that import one another, directly or through others (Tarjan's algorithm, 1972)."""
    order, low, stack, found = {}, {}, [], []

    def visit(module):
        order[module] = low[module] = len(order)
        stack.append(module)
        for other in graph.find_modules_directly_imported_by(module):
            if other not in order:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], order[other])
        if low[module] == order[module]:
            circle = set()
            while module not in circle:
                circle.add(stack.pop())
            if len(circle) > 1:
                found.append(sorted(circle))

    sys.setrecursionlimit(max(sys.getrecursionlimit(), 4 * len(graph.modules)))
    for module in sorted(graph.modules):
        if module not in order:
            visit(module)
    return sorted(found)


def test_no_files_import_each_other():
    # Imports in functions and those for type checkers count: a reader follows them all the same.
    graph = grimp.build_graph("tscnc_deploy", cache_dir=None)
    assert len(graph.modules) > 300
    assert circles(graph) == []


def test_circles_are_found():
    graph = grimp.ImportGraph()
    for importer, imported in ("ab", "bc", "ca", "cd", "de"):
        graph.add_import(importer=importer, imported=imported)
    assert circles(graph) == [["a", "b", "c"]]


HEAVY = ("jinja2", "matplotlib", "numpy", "onnx", "onnxruntime", "pydantic", "rich", "scipy", "torch")


@pytest.mark.parametrize("arguments", [["--help"], ["build", "--help"], ["verify", "--help"], ["--version"]])
def test_help_imports_no_heavy_package(arguments):
    code = f"""
import sys
from tscnc_deploy.cli import main
main({arguments!r}, prog_name="tscnc-deploy", standalone_mode=False)
print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert "tscnc-deploy" in done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["build", "--help"]])
def test_help_takes_less_than_half_a_second_of_the_processor(arguments):
    # The least of three: what else runs on the machine takes caches away, but no more than that from processor time.
    seconds = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, "-m", "tscnc_deploy", *arguments], cwd=ROOT, capture_output=True, check=True)
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(seconds) < 0.5
