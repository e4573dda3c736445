"""Builds the core of the sparse CPU engine; everything else is in pyproject.toml.

The core is a shared library with C functions, loaded by ctypes, so it depends on no Python version. It is optional:
without a working compiler the package installs all the same, and `tscnc-deploy doctor` says what is missing. No file is
compiled for the processor of the build: the kernels name their own instructions and are chosen when the engine opens.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

FOLDER = Path("tscnc_deploy/engines/sparse_cpu")


class BuildCore(build_ext):
    """Names the library without the tag of a Python version."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split(".")).with_suffix(".so"))

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return []


class AnyPython(bdist_wheel):
    """A wheel for one platform and every Python 3."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    # The last two live at the top of the repository, where users edit them: wheels carry them inside the package.
    packages=[
        *find_packages(include=["tscnc_deploy", "tscnc_deploy.*"]),
        "tscnc_deploy._shipped.export",
        "tscnc_deploy._shipped.pipelines",
    ],
    ext_modules=[
        Extension(
            "tscnc_deploy.engines.sparse_cpu._core",
            sources=sorted(str(path) for path in (FOLDER / "csrc").glob("*.cpp")),
            depends=sorted(str(path) for path in (FOLDER / "csrc").glob("*.[hi]*")),
            language="c++",
            extra_compile_args=["-std=c++17", "-O2", "-g0", "-fvisibility=hidden", "-fno-math-errno", "-pthread"],
            extra_link_args=["-pthread"],
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildCore, "bdist_wheel": AnyPython},
)
