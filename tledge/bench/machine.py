"""Where a measurement was made: the processor, what of it this process may use, and the runtime."""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnxruntime as ort

from tledge import __version__
from tledge.artifacts import Machine
from tledge.processor import here, output, read
from tledge.runtime.cores import affinity, quota_cores

_PACKAGES = (
    *("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-qnn"),
    *("numpy", "pillow"),
    *("torch", "torchvision", "transformers", "timm"),
)

_PLAUSIBLE_C = (1.0, 115.0)
"""Temperatures outside are what a sensor that is not there gives: 0, -273, 127, 255."""


def describe() -> Machine:
    """This machine, as this process sees it.

    `cores` counts the logical cores of the CPU affinity, two threads of one physical core as two; the default
    number of threads, `available_cores`, takes physical ones and the quota. What a system does not tell is left
    empty: the flags on an unknown system, the quota and the temperature outside Linux, the frequency on Windows and
    in most virtual machines, the load average on Windows. Packages are looked up, not imported.
    """
    processor = here()
    frequency, highest = frequencies_mhz()
    machine = Machine(
        cpu=processor.cpu,
        architecture=processor.architecture,
        cpu_flags=processor.cpu_flags,
        cores=len(affinity()),
        quota_cores=quota_cores(),
        memory_mb=_memory_mb(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        onnxruntime=ort.__version__,
        providers=tuple(ort.get_available_providers()),
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        packages={"tledge": __version__} | _versions(_PACKAGES),
        onnxruntime_build=parse_build(ort.get_build_info()),
        frequency_mhz=frequency,
        max_frequency_mhz=highest,
        governor=governor(),
        temperature_c=temperature_c(),
    )
    return dataclasses.replace(machine, fingerprint=fingerprint(machine))


def fingerprint(machine: Machine) -> str:
    """Twelve hexadecimal digits of what determines speed: two results with the same ones may be compared.

    The processor, its architecture and flags, the cores and the quota, the system's name, and onnxruntime with its
    version, build and providers count. What changes from moment to moment does not (load, frequency,
    temperature), nor do the system's and Python's own releases, the memory, and the governor: machines of one
    kind, such as the runners of a CI service, have the same fingerprint.
    """
    facts = (
        *(machine.cpu, machine.architecture, machine.cpu_flags, machine.cores, machine.quota_cores),
        *(machine.system.partition(" ")[0], machine.onnxruntime, machine.onnxruntime_build, machine.providers),
    )
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


def frequencies_mhz(
    *, cpus: Path = Path("/sys/devices/system/cpu"), cpuinfo: Path = Path("/proc/cpuinfo")
) -> tuple[float | None, float | None]:
    """The highest frequency now, and the highest allowed, among the cores of the affinity, in MHz; `None` if unknown.

    Linux' cpufreq, else the `cpu MHz` of /proc/cpuinfo, which in a virtual machine is the nominal one; macOS'
    sysctl on Intel. Idle cores are slow, so that the highest stands for the core that works.
    """
    if platform.system() == "Darwin":
        return parse_sysctl_mhz(output("sysctl", "hw.cpufrequency", "hw.cpufrequency_max"))
    folders = [cpus / f"cpu{core}" / "cpufreq" for core in sorted(affinity())]
    now = [_number(folder / "scaling_cur_freq") or _number(folder / "cpuinfo_cur_freq") for folder in folders]
    most = [_number(folder / "scaling_max_freq") or _number(folder / "cpuinfo_max_freq") for folder in folders]
    current = max((khz / 1e3 for khz in now if khz), default=None)
    allowed = max((khz / 1e3 for khz in most if khz), default=None)
    return current or parse_cpuinfo_mhz(read(cpuinfo), affinity()), allowed


def parse_cpuinfo_mhz(text: str, cores: Iterable[int]) -> float | None:
    """The highest `cpu MHz` of these cores in Linux' /proc/cpuinfo; `None` where it has none."""
    wanted, core, found = {str(number) for number in cores}, "", []
    for line in text.splitlines():
        name, _, value = (part.strip() for part in line.partition(":"))
        if name == "processor":
            core = value
        elif name == "cpu MHz" and core in wanted:
            found.append(_float(value))
    return max((mhz for mhz in found if mhz), default=None)


def parse_sysctl_mhz(text: str) -> tuple[float | None, float | None]:
    """The frequency and the highest one out of macOS' `sysctl hw.cpufrequency hw.cpufrequency_max`, which are in Hz."""
    fields = {name.strip(): _float(value) for name, _, value in (line.partition(":") for line in text.splitlines())}
    now, most = (fields.get(name) for name in ("hw.cpufrequency", "hw.cpufrequency_max"))
    return (now / 1e6 if now else None), (most / 1e6 if most else None)


def governor(*, cpus: Path = Path("/sys/devices/system/cpu")) -> str:
    """The system's rule for frequencies, such as `performance`; empty if unknown, joined if the cores' differ."""
    found = {read(cpus / f"cpu{core}" / "cpufreq" / "scaling_governor").strip() for core in affinity()}
    return ", ".join(sorted(found - {""}))


def temperature_c(
    *, thermal: Path = Path("/sys/class/thermal"), hwmon: Path = Path("/sys/class/hwmon")
) -> float | None:
    """What the hottest sensor of a Linux machine shows, in degrees Celsius; `None` where there is none to believe."""
    sensors = [*thermal.glob("thermal_zone*/temp"), *hwmon.glob("hwmon*/temp*_input")]
    found = [value / 1e3 for value in map(_number, sensors) if value is not None]
    low, high = _PLAUSIBLE_C
    return max((celsius for celsius in found if low <= celsius <= high), default=None)


def parse_build(text: str) -> str:
    """What tells builds of onnxruntime apart out of its build information: commit, kind, options, compiler flags.

    The flags are long, so that eight digits of their hash stand for them.
    """
    text, _, flags = text.removeprefix("ORT Build Info: ").partition("cmake cxx flags:")
    facts = [fact.strip() for fact in text.split(",")]
    kept = [
        fact.removeprefix("git-commit-id=").removeprefix("build type=")
        for fact in facts
        if fact and not fact.startswith("git-branch=")
    ]
    if flags.strip():
        kept.append(f"flags {hashlib.sha256(flags.strip().encode()).hexdigest()[:8]}")
    return ", ".join(kept)


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


def _versions(packages: Iterable[str]) -> dict[str, str]:
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _number(path: Path) -> float | None:
    return _float(read(path))


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
