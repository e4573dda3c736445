"""`tscnc-deploy doctor`."""

from __future__ import annotations

from typing import Any

import click

from tscnc_deploy.cli.common.output import json_option, print_json, print_table, reserve_stdout


@click.command()
@json_option
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Show what this machine can do.

    Lists the machine, the packages, and which targets can be built and run here, with the commands that install or fix
    packages. The exit status is 3 if a required package is missing or broken, else 0.
    """
    with reserve_stdout(as_json):
        findings = examine()
    if as_json:
        print_json(findings)
    else:
        _show(findings)
    context.exit(0 if findings["ok"] else 3)


def examine() -> dict[str, Any]:
    """All results as the JSON document; "problems" prevent a build, "hints" describe limitations."""
    from tscnc_deploy.cli.common import machine
    from tscnc_deploy.versions import installed_version, own_version

    requirements = machine.REQUIRED | {"onnxruntime": machine.onnxruntime_requirement()}
    packages = {module: machine.package(module, requirement) for module, requirement in requirements.items()}
    problems = [
        {"problem": f"{module} {found['problem']}", "fix": f"pip install --force-reinstall '{requirements[module]}'"}
        for module, found in packages.items()
        if found["problem"]
    ]
    runtimes = machine.onnxruntime_distributions()
    if packages["onnxruntime"]["version"] is None and runtimes:
        packages["onnxruntime"]["version"] = installed_version(runtimes[0])
    if len(runtimes) > 1:
        fix = f"pip uninstall -y {' '.join(runtimes)} && pip install '{machine.onnxruntime_requirement()}'"
        problems.append({"problem": f"{' and '.join(runtimes)} overwrite each other's files", "fix": fix})
    healthy = {module for module, found in packages.items() if not found["problem"]}
    cuda = machine.cuda() if "torch" in healthy else None
    runtime = _runtime(runtimes, cuda) if {"torch", "onnx", "onnxruntime"} <= healthy else None
    return {
        "ok": not problems,
        "problems": problems,
        "hints": _hints(cuda, runtime),
        "tscnc_deploy": own_version(),
        **machine.system(),
        "packages": packages,
        "cuda": cuda,
        "onnxruntime": runtime,
        "tensorrt": {kind: _tensorrt(kind) for kind in ("tensorrt", "tensorrt-rtx")} if "torch" in healthy else {},
        "sparse_cpu": _sparse_cpu() if "numpy" in healthy else None,
        "extras": {name: _extra(name, distributions) for name, distributions in machine.EXTRAS.items()},
        "targets": _targets() if len(healthy) == len(packages) else {},
    }


def _runtime(distributions: list[str], cuda: dict[str, Any] | None) -> dict[str, Any]:
    import onnxruntime

    from tscnc_deploy.engines.onnx.session import CUDA, require
    from tscnc_deploy.errors import UnavailableError

    # Without a GPU installing packages does not help, so only show how to install them if there is a GPU.
    reason = None if cuda and cuda["available"] else "torch finds no NVIDIA GPU"
    if reason is None:
        try:
            require(CUDA)
        except UnavailableError as error:
            reason = str(error)
    return {
        "distributions": distributions,
        "providers": onnxruntime.get_available_providers(),
        "cuda_session": reason is None,
        "cuda_problem": reason,
    }


def _tensorrt(kind: str) -> dict[str, Any]:
    """What TensorRT or TensorRT-RTX can do here: version, problem if any, and the GPUs that it builds for."""
    from tscnc_deploy.engines.tensorrt import library

    problem, gpu = library.library_problem(kind), library.gpu_capability()
    if problem:
        return {"version": None, "problem": problem, "builds_for": [], "runs": False}
    lib = library.load(kind)
    elsewhere = library.known_capabilities(lib) if kind == "tensorrt-rtx" else []
    return {
        "version": lib.__version__,
        "problem": None if gpu else "torch finds no NVIDIA GPU to run its engines on",
        "builds_for": list(dict.fromkeys([*elsewhere, *([gpu] if gpu else [])])),
        "runs": gpu is not None,
    }


def _sparse_cpu() -> dict[str, Any]:
    from tscnc_deploy.engines.sparse_cpu.library import instructions_for
    from tscnc_deploy.errors import UnavailableError

    try:
        return {"instructions": instructions_for("auto"), "problem": None}
    except UnavailableError as error:
        return {"instructions": None, "problem": str(error)}


def _hints(cuda: dict[str, Any] | None, runtime: dict[str, Any] | None) -> list[str]:
    hints = []
    if cuda and cuda["warning"]:
        hints.append(f"torch: {cuda['warning']}")
    if cuda and cuda["driver"] and not cuda["available"]:
        built = f"for CUDA {cuda['torch_cuda']}" if cuda["torch_cuda"] else "without CUDA"
        hints.append(
            f"the NVIDIA driver {cuda['driver']} is loaded but torch, built {built}, finds no GPU: "
            "update the driver, or install a matching build of torch"
        )
    if cuda and cuda["available"] and runtime and runtime["cuda_problem"]:
        hints.append(f"torch finds a GPU but onnxruntime cannot use it: {runtime['cuda_problem']}")
    return hints


def _extra(name: str, distributions: tuple[str, ...]) -> dict[str, Any]:
    from tscnc_deploy.versions import installed_version

    versions = {distribution: installed_version(distribution) for distribution in distributions}
    missing = None in versions.values()
    return {"versions": versions, "install": f"pip install 'tscnc-deploy[{name}]'" if missing else None}


def _targets() -> dict[str, Any]:
    from tscnc_deploy.engines.registry import can_export, can_run
    from tscnc_deploy.engines.target import list_targets

    found = {}
    for target in list_targets():
        missing, reason = can_export(target), can_run(target)
        found[target.name] = {
            "builds": missing is None,
            "build_reason": missing,
            "runs": reason is None,
            "reason": reason,
        }
    return found


def _show(findings: dict[str, Any]) -> None:
    cpu, memory, disk, cuda, runtime = (findings[key] for key in ("cpu", "memory", "disk", "cuda", "onnxruntime"))
    rows = [
        ["tscnc-deploy", findings["tscnc_deploy"]],
        ["Python", f"{findings['python']}, {findings['executable']}"],
        ["system", findings["os"]],
        ["processor", f"{cpu['model']}, {' '.join(cpu['instructions']) or 'no known extensions'}"],
        ["cores", _cores_line(cpu)],
        ["memory", f"{_gib(memory['free'])} free of {_gib(memory['total'])}"],
        ["disk", f"{_gib(disk['free'])} free of {_gib(disk['total'])} in {disk['folder']}"],
    ]
    if cuda:
        rows += [["GPU", _gpu_line(gpu)] for gpu in cuda["gpus"]] or [["GPU", "none found by torch"]]
        built = f"for CUDA {cuda['torch_cuda']}" if cuda["torch_cuda"] else "without CUDA"
        rows.append(["CUDA", f"NVIDIA driver {cuda['driver'] or 'not loaded'}, torch built {built}"])
    if runtime:
        session = "a CUDA session starts" if runtime["cuda_session"] else f"no CUDA session: {runtime['cuda_problem']}"
        providers = f"{' and '.join(runtime['distributions'])}: {', '.join(runtime['providers'])}"
        rows.append(["onnxruntime", f"{providers}; {session}"])
    rows += [[kind, _tensorrt_line(found)] for kind, found in findings["tensorrt"].items()]
    if sparse_cpu := findings["sparse_cpu"]:
        rows.append(["sparse-cpu", sparse_cpu["problem"] or f"compiled, runs with {sparse_cpu['instructions']}"])
    click.echo("Machine")
    print_table([], rows)
    packages = [[module, p["version"] or "-", p["problem"] or "ok"] for module, p in findings["packages"].items()]
    click.echo("\nPackages")
    print_table([], packages)
    click.echo("\nExtras")
    print_table([], [_extra_row(name, extra) for name, extra in findings["extras"].items()])
    if findings["targets"]:
        targets = [[name, _target_line(found)] for name, found in findings["targets"].items()]
        click.echo("\nTargets")
        print_table([], targets)
    for hint in findings["hints"]:
        click.echo(f"\nhint: {hint}")
    for found in findings["problems"]:
        click.echo(f"\nPROBLEM: {found['problem']}\n  to fix it, run: {found['fix']}")


def _cores_line(cpu: dict[str, Any]) -> str:
    quota = "no quota of time" if cpu["quota"] is None else f"a quota of {cpu['quota']:g} cores' time"
    load = "load unknown" if cpu["load"] is None else f"load {cpu['load']:.1f}"
    threads = "1 thread" if cpu["threads"] == 1 else f"{cpu['threads']} threads"
    usable = f"{cpu['physical']} usable ({cpu['affinity']} of {cpu['cores']} hardware threads)"
    return f"{usable}, {quota}, {load}; computes with {threads}"


def _extra_row(name: str, extra: dict[str, Any]) -> list[str]:
    versions = ", ".join(f"{distribution} {found}" for distribution, found in extra["versions"].items() if found)
    return [name, versions or "not installed", extra["install"] or ""]


def _tensorrt_line(trt: dict[str, Any]) -> str:
    if trt["version"] is None:
        return str(trt["problem"])
    builds = f"builds for {', '.join(trt['builds_for'])}" if trt["builds_for"] else "builds nothing"
    return f"{trt['version']}, {builds}; {trt['problem'] or 'runs here'}"


def _target_line(target: dict[str, Any]) -> str:
    match target["builds"], target["runs"]:
        case True, True:
            return "builds and runs here"
        case True, False:
            return f"builds here; to run: {target['reason']}"
        case _:
            return str(target["build_reason"])


def _gpu_line(gpu: dict[str, Any]) -> str:
    return f"{gpu['name']}, compute capability {gpu['compute_capability']}, {_gib(gpu['memory'])}"


def _gib(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 2**30:.1f} GiB"
