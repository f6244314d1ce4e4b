"""The processor of this machine: its name, its instruction sets, and how it multiplies int8 numbers."""

from __future__ import annotations

import ctypes
import platform
import re
import subprocess
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from tledge.artifacts import Processor

FLAGS = (
    *("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx_vnni_int8", "avx512_bf16", "avx512_fp16"),
    *("amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)
"""The instruction sets that matter for inference, by their Linux names: first x86, then Arm."""

_DARWIN_FLAGS = {
    "avx2": "avx2",
    "avx512f": "avx512f",
    "avx512vnni": "avx512_vnni",
    "hw.optional.advsimd": "asimd",
    "hw.optional.neon": "asimd",
    "hw.optional.arm.feat_fp16": "asimdhp",
    "hw.optional.arm.feat_dotprod": "asimddp",
    "hw.optional.arm.feat_i8mm": "i8mm",
    "hw.optional.arm.feat_bf16": "bf16",
    "hw.optional.arm.feat_sme": "sme",
}
_WINDOWS_FEATURES = {40: "avx2", 41: "avx512f", 19: "asimd", 43: "asimddp"}
"""Numbers of IsProcessorFeaturePresent; Windows reports no other flag of ours."""

_X86 = ("x86_64", "AMD64")
_ARM = ("aarch64", "arm64", "ARM64")
"""What Linux, macOS and Windows call the two architectures."""


def here() -> Processor:
    """This machine's processor; flags are empty on a system that does not tell them."""
    cpu, flags = _name_and_flags()
    architecture = platform.machine()
    return Processor(cpu, architecture, flags, kind(architecture, flags))


def kind(architecture: str, flags: Collection[str]) -> str:
    """How such a processor multiplies int8 numbers, such as `x86_64 AVX512-VNNI` or `aarch64 dot product`.

    What decides is the widest instruction set for it. Windows tells nothing of VNNI and AMX, and the kind says that.

    Args:
        architecture: as `platform.machine()` calls it; one that is neither x86-64 nor 64-bit Arm is its own kind.
        flags: instruction sets, as in `FLAGS`.
    """
    if architecture in _ARM:
        sets = {"i8mm": "i8mm", "asimddp": "dot product"}
        return f"aarch64 {next((words for flag, words in sets.items() if flag in flags), 'without dot product')}"
    if architecture not in _X86:
        return architecture
    vnni = "and perhaps VNNI" if architecture == "AMD64" else "without VNNI"
    sets = {
        "amx_int8": "AMX",
        "avx512_vnni": "AVX512-VNNI",
        "avx_vnni": "AVX-VNNI",
        "avx512f": f"AVX512 {vnni}",
        "avx2": f"AVX2 {vnni}",
    }
    return f"x86_64 {next((words for flag, words in sets.items() if flag in flags), 'without AVX2')}"


def clips(processor: Processor) -> bool:
    """Whether it adds two products of uint8 and int8 in 16 bits: x86 without VNNI, or where nothing tells of VNNI."""
    return processor.architecture in _X86 and not {"amx_int8", "avx512_vnni", "avx_vnni"} & set(processor.cpu_flags)


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """The processor's name and our flags out of Linux' /proc/cpuinfo; the name is empty where it has none.

    Clouds show names such as `AMD EPYC`; the family and model then say which generation it is.
    """
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip().lower(), value.strip())
    # On x86 the name is `model name`; a small Arm board has `Model` for the board, and others only a part
    # number, while the `model` of x86 is a bare number.
    board = fields.get("model", "")
    part = f"Arm part {fields['cpu part']}" if "cpu part" in fields else ""
    name = fields.get("model name") or ("" if board.isdigit() else board) or part
    if "cpu family" in fields and board.isdigit() and not re.search(r"\d", name.partition("@")[0]):
        name = f"{name} (family {fields['cpu family']}, model {board})"
    return name, _known((fields.get("flags") or fields.get("features") or "").split())


def parse_sysctl(text: str) -> tuple[str, tuple[str, ...]]:
    """The processor's name and our flags out of what macOS' `sysctl machdep.cpu hw.optional` prints."""
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
    listed = f"{fields.get('machdep.cpu.features', '')} {fields.get('machdep.cpu.leaf7_features', '')}".split()
    present = [name for name, value in fields.items() if name.startswith("hw.optional.") and value == "1"]
    flags = [_DARWIN_FLAGS.get(name.lower(), "") for name in (*listed, *present)]
    return fields.get("machdep.cpu.brand_string", ""), _known(flags)


def short_name(cpu: str, architecture: str, flags: Collection[str]) -> str:
    """A processor as the head of a column: its name without trademarks and frequency, and its kind."""
    plain = re.sub(r"\((R|TM|C)\)|\bCPU\b|@ *[\d.]+ *[GM]Hz", " ", cpu, flags=re.IGNORECASE)
    return ", ".join(part for part in (" ".join(plain.split()), kind(architecture, flags)) if part)


def _name_and_flags() -> tuple[str, tuple[str, ...]]:
    name, flags = "", _known(())
    if platform.system() == "Linux":
        name, flags = parse_cpuinfo(read(Path("/proc/cpuinfo")))
        name = name or read(Path("/proc/device-tree/model")).strip("\0\n ")
    elif platform.system() == "Darwin":
        name, flags = parse_sysctl(output("sysctl", "machdep.cpu", "hw.optional"))
    elif platform.system() == "Windows":
        kernel32: Any = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined,unused-ignore]
        flags = _known(f for n, f in _WINDOWS_FEATURES.items() if kernel32.IsProcessorFeaturePresent(n))
    return name or platform.processor() or platform.machine(), flags


def read(path: Path) -> str:
    """The text of a file in which the system tells something; empty where it does not."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def output(*command: str) -> str:
    """What a command of the system prints; empty where there is no such command."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


def _known(flags: Iterable[str]) -> tuple[str, ...]:
    present = set(flags)
    return tuple(flag for flag in FLAGS if flag in present)
