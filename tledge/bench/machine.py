"""Where a measurement was made: the processor, what of it this process may use, and the runtime."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnxruntime as ort

from tledge.artifacts import Machine
from tledge.runtime.cores import quota_cores

FLAGS = (
    *("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16", "avx512_bf16"),
    *("asimd", "asimddp", "i8mm", "bf16", "sve"),
)
"""The instruction sets that matter for inference, by their Linux names: first x86, then Arm."""

_DARWIN_FLAGS = {
    "avx2": "avx2",
    "avx512f": "avx512f",
    "avx512vnni": "avx512_vnni",
    "hw.optional.advsimd": "asimd",
    "hw.optional.neon": "asimd",
    "hw.optional.arm.feat_dotprod": "asimddp",
    "hw.optional.arm.feat_i8mm": "i8mm",
    "hw.optional.arm.feat_bf16": "bf16",
}
_WINDOWS_FEATURES = {40: "avx2", 41: "avx512f", 19: "asimd", 43: "asimddp"}
"""Numbers of IsProcessorFeaturePresent; Windows reports no other flag of ours."""

_PACKAGES = (
    *("tledge", "onnxruntime", "onnxruntime-gpu", "numpy", "pillow"),
    *("torch", "torchvision", "transformers", "timm"),
)


def describe() -> Machine:
    """This machine, as this process sees it.

    What a system does not tell is left empty: the flags on an unknown system, the quota outside Linux, the
    load average on Windows. Packages are looked up, not imported.
    """
    cpu, flags = _processor()
    return Machine(
        cpu=cpu,
        architecture=platform.machine(),
        cpu_flags=flags,
        cores=_cores(),
        quota_cores=quota_cores(),
        memory_mb=_memory_mb(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        onnxruntime=ort.__version__,
        providers=tuple(ort.get_available_providers()),
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        packages=_versions(_PACKAGES),
    )


def fingerprint(machine: Machine) -> str:
    """Twelve hexadecimal digits of what determines speed: two results with the same ones may be compared.

    The processor, its flags, the cores and the quota, the system, onnxruntime and its providers count; the
    load of the moment, the memory and the Python version do not.
    """
    facts = (
        *(machine.cpu, machine.architecture, machine.cpu_flags, machine.cores, machine.quota_cores),
        *(machine.system.partition(" ")[0], machine.onnxruntime, machine.providers),
    )
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """The processor's name and our flags out of Linux' /proc/cpuinfo; the name is empty where it has none."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip().lower(), value.strip())
    # On x86 the name is `model name`; a small Arm board has `Model` for the board, and others only a part
    # number, while the `model` of x86 is a bare number.
    board = fields.get("model", "")
    part = f"Arm part {fields['cpu part']}" if "cpu part" in fields else ""
    name = fields.get("model name") or ("" if board.isdigit() else board) or part
    return name, _known((fields.get("flags") or fields.get("features") or "").split())


def parse_sysctl(text: str) -> tuple[str, tuple[str, ...]]:
    """The processor's name and our flags out of what macOS' `sysctl machdep.cpu hw.optional` prints."""
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
    listed = f"{fields.get('machdep.cpu.features', '')} {fields.get('machdep.cpu.leaf7_features', '')}".split()
    present = [name for name, value in fields.items() if name.startswith("hw.optional.") and value == "1"]
    flags = [_DARWIN_FLAGS.get(name.lower(), "") for name in (*listed, *present)]
    return fields.get("machdep.cpu.brand_string", ""), _known(flags)


def _processor() -> tuple[str, tuple[str, ...]]:
    name, flags = "", _known(())
    if platform.system() == "Linux":
        name, flags = parse_cpuinfo(_read(Path("/proc/cpuinfo")))
        name = name or _read(Path("/proc/device-tree/model")).strip("\0\n ")
    elif platform.system() == "Darwin":
        name, flags = parse_sysctl(_output("sysctl", "machdep.cpu", "hw.optional"))
    elif platform.system() == "Windows":
        kernel32: Any = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined,unused-ignore]
        flags = _known(f for n, f in _WINDOWS_FEATURES.items() if kernel32.IsProcessorFeaturePresent(n))
    return name or platform.processor() or platform.machine(), flags


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_mb() -> float:
    if platform.system() == "Windows":
        return _windows_memory_bytes() / 1e6
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6


def _windows_memory_bytes() -> int:
    class Status(ctypes.Structure):  # MEMORYSTATUSEX
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "free", "c", "d", "e", "f", "g")),
        )

    status = Status(length=ctypes.sizeof(Status))
    kernel32: Any = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined,unused-ignore]
    kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return int(status.total)


def _known(flags: Iterable[str]) -> tuple[str, ...]:
    present = set(flags)
    return tuple(flag for flag in FLAGS if flag in present)


def _versions(packages: Iterable[str]) -> dict[str, str]:
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""
