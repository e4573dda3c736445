"""The two build steps that pyproject.toml cannot describe: a C++ library and a protobuf descriptor.

The core of the sparse CPU engine is a shared library with C functions, loaded by ctypes, so it depends on no Python
version. It is optional: without a working compiler the package installs all the same, and `tscnc-deploy doctor` says
what is missing. No file is compiled for the processor of the build: the kernels name their own instructions and are
chosen when the engine opens.

The descriptor is open_inference.proto in binary form. It holds no generated Python code, so a wheel is not tied to the
version of protobuf that was there when it was built.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from setuptools import Command, Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

CORE = Path("tscnc_deploy/engines/sparse_cpu")
PROTOCOL = Path("tscnc_deploy/open_inference/open_inference.proto")


class BuildCore(build_ext):
    """Names the library without the tag of a Python version."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split(".")).with_suffix(".so"))

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return []


class BuildDescriptor(Command):
    """Compiles the .proto file to a FileDescriptorSet; an editable install writes it beside its source."""

    description = "compile the protocol's .proto file"

    def initialize_options(self) -> None:
        self.build_lib: str | None = None
        self.editable_mode = False

    def finalize_options(self) -> None:
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        # Imported here, as commands that build nothing have no need of the compiler.
        from grpc_tools import protoc

        output = PROTOCOL.with_suffix(".binpb") if self.editable_mode else self._built()
        output.parent.mkdir(parents=True, exist_ok=True)
        status = protoc.main(["protoc", f"-I{PROTOCOL.parent}", f"--descriptor_set_out={output}", PROTOCOL.name])
        if status != 0:
            msg = f"{PROTOCOL}: protoc ended with status {status}"
            raise RuntimeError(msg)

    def get_source_files(self) -> list[str]:
        return [PROTOCOL.as_posix()]

    def get_outputs(self) -> list[str]:
        return [str(self._built())]

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def _built(self) -> Path:
        assert self.build_lib is not None
        return Path(self.build_lib, PROTOCOL.with_suffix(".binpb"))


class Build(build):
    sub_commands: ClassVar = [*build.sub_commands, ("build_descriptor", None)]


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
            sources=sorted(str(path) for path in (CORE / "csrc").glob("*.cpp")),
            depends=sorted(str(path) for path in (CORE / "csrc").glob("*.[hi]*")),
            language="c++",
            extra_compile_args=["-std=c++17", "-O2", "-g0", "-fvisibility=hidden", "-fno-math-errno", "-pthread"],
            extra_link_args=["-pthread"],
            optional=True,
        )
    ],
    cmdclass={"build": Build, "build_descriptor": BuildDescriptor, "build_ext": BuildCore, "bdist_wheel": AnyPython},
)
