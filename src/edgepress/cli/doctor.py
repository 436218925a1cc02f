"""`edgepress doctor`: what this machine and this installation can do."""

import re
from typing import Any

import click

from edgepress.cli.options import json_option
from edgepress.cli.output import heading, print_json, show_facts

SECTION = "Machine"

_X86 = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "VNNI (fast INT8)": ("avx512_vnni", "avx_vnni"),
    "BF16": ("avx512_bf16",),
    "AMX": ("amx_int8",),
}
_ARM = {
    "NEON": ("asimd", "neon"),
    "NEON dot product (fast INT8)": ("asimddp",),
    "INT8 matrix": ("i8mm",),
    "BF16": ("bf16",),
    "SVE": ("sve", "sve2"),
}


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Say what this machine has: CPU, memory, runtimes, extras, data."""
    found: dict[str, Any] = {
        "machine": _machine(),
        "runtimes": _runtimes(),
        "extras": _extras(),
        "data": _data(),
    }
    if as_json:
        print_json(found)
        return
    machine = found["machine"]
    heading("machine")
    show_facts(
        {
            "  processor": machine["processor"],
            "  cores": f"{machine['physical_cores']} physical, {machine['logical_cores']} logical",
            "  instructions": ", ".join(name for name, has in machine["instructions"].items() if has) or "none known",
            "  absent": ", ".join(name for name, has in machine["instructions"].items() if not has),
            "  INT8": machine["int8"],
            "  memory": f"{machine['memory_bytes'] / 2**30:.1f} GiB" if machine["memory_bytes"] else "unknown",
            "  governor": machine["governor"] or "unknown (not told by this kernel)",
            "  pinning": machine["pinning"],
            "  energy": machine["energy"],
            "  system": machine["system"],
            "  python": machine["python"],
        }
    )
    if machine["spoilers"]:
        heading("\nwhat would spoil a measurement")
        for text in machine["spoilers"]:
            click.echo(f"  {text}")
    heading("\nruntimes")
    show_facts(
        {f"  {name}": one["reason"] or _versions(name, one["versions"]) for name, one in found["runtimes"].items()}
    )
    heading("\nextras")
    if found["extras"]:
        missing = {name: ", ".join(lacking) for name, lacking in found["extras"].items()}
        show_facts({f"  {name}": f"missing: {text}" if text else "installed" for name, text in missing.items()})
    else:
        click.echo("  unknown: edgepress is not installed as a package")
    heading("\ndata")
    show_facts({f"  {name}": one or "found" for name, one in found["data"].items()})


def _machine() -> dict[str, Any]:
    import platform

    from edgepress.measure import environment
    from edgepress.runtime.hardware import this_machine

    features = environment.cpu_features()
    known = _ARM if platform.machine().lower().startswith(("arm", "aarch")) else _X86
    return {
        "processor": environment.cpu_name(),
        "physical_cores": environment.physical_cores(),
        "logical_cores": environment.logical_cores(),
        "instructions": {name: any(feature in features for feature in any_of) for name, any_of in known.items()},
        "int8": this_machine().describe(),
        "memory_bytes": environment.memory_bytes(),
        "governor": environment.governor(),
        "pinning": environment.pinning(),
        "energy": _energy(),
        "spoilers": environment.spoilers(),
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "python": platform.python_version(),
    }


def _energy() -> str:
    """Return what tells joules here, or why nothing does."""
    from edgepress.measure import energy

    reader, reasons = energy.find()
    return f"read from {reader.name}" if reader is not None else f"estimates only (--tdp): {'; '.join(reasons)}"


def _runtimes() -> dict[str, dict[str, Any]]:
    from edgepress.runtime.engine import engines

    found = {name: engines.get(name) for name in engines}
    return {name: {"reason": e.available() or "", "versions": e.versions()} for name, e in found.items()}


def _versions(runtime: str, versions: dict[str, str]) -> str:
    return ", ".join(version if name == runtime else f"{name} {version}" for name, version in versions.items())


def _extras() -> dict[str, list[str]]:
    """Return the packages that each extra asks for and that are not installed; empty outside an installation."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        lines = requires("edgepress") or []
    except PackageNotFoundError:
        return {}
    return missing_extras(lines)


def missing_extras(lines: list[str]) -> dict[str, list[str]]:
    """Return the missing packages by extra, from requirement lines such as `torch>=2; extra == 'train'`."""
    from edgepress.measure.environment import package_version

    wanted: dict[str, list[str]] = {}
    for line in lines:
        package, extra = re.match(r"[\w.-]+", line), re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        if package and extra:
            nested = re.match(r"edgepress\[([\w,.\s-]+)\]", line)
            wanted.setdefault(extra[1], []).extend(nested[1].split(",") if nested else [package[0]])
    packages = {
        name: [p for one in needs for p in wanted.get(one.strip(), [one.strip()])] for name, needs in wanted.items()
    }
    return {n: [p for p in dict.fromkeys(needs) if not package_version(p)] for n, needs in sorted(packages.items())}


def _data() -> dict[str, str]:
    """Return each data set with the reason why it cannot be loaded here, empty where it can."""
    from edgepress.data.load import found

    return {name: reason or "" for name, reason in found()}
