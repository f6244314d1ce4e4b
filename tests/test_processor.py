import platform

import pytest

from tledge import processor

X86 = """\
processor\t: 0
vendor_id\t: GenuineIntel
model\t\t: 143
model name\t: Imaginary Xeon 9999
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni amx_bf16 amx_int8

processor\t: 1
model name\t: Another one
flags\t\t: fpu
"""
ARM_BOARD = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd0b

Model\t\t: Imaginary Board 5
"""
ARM_SERVER = "processor : 0\nFeatures : fp asimd sve i8mm bf16\nCPU part : 0xd40\n"


@pytest.mark.parametrize(
    ("text", "name", "flags"),
    [
        (X86, "Imaginary Xeon 9999", ("avx2", "avx512f", "avx512_vnni", "amx_int8", "amx_bf16")),
        (ARM_BOARD, "Imaginary Board 5", ("asimd", "asimddp")),
        (ARM_SERVER, "Arm part 0xd40", ("asimd", "i8mm", "bf16", "sve")),
        ("", "", ()),
    ],
)
def test_cpuinfo(text, name, flags):
    assert processor.parse_cpuinfo(text) == (name, flags)


def test_sysctl_of_both_kinds_of_mac():
    arm = "machdep.cpu.brand_string: Apple M9\nhw.optional.AdvSIMD: 1\nhw.optional.arm.FEAT_DotProd: 1\n"
    arm += "hw.optional.arm.FEAT_I8MM: 1\nhw.optional.arm.FEAT_BF16: 0\n"
    assert processor.parse_sysctl(arm) == ("Apple M9", ("asimd", "asimddp", "i8mm"))
    intel = "machdep.cpu.brand_string: Core i9\nmachdep.cpu.features: FPU SSE2\n"
    intel += "machdep.cpu.leaf7_features: AVX2 AVX512F\n"
    assert processor.parse_sysctl(intel) == ("Core i9", ("avx2", "avx512f"))


def test_a_name_without_a_number_gets_the_family_and_model():
    text = "processor: 0\ncpu family: 26\nmodel: 2\nmodel name: {}\nflags: avx2\n"
    assert processor.parse_cpuinfo(text.format("AMD EPYC")) == ("AMD EPYC (family 26, model 2)", ("avx2",))
    named = processor.parse_cpuinfo(text.format("Xeon(R) CPU @ 2.20GHz"))[0]
    assert named == "Xeon(R) CPU @ 2.20GHz (family 26, model 2)"
    assert processor.parse_cpuinfo(text.format("Ryzen 9 7950X"))[0] == "Ryzen 9 7950X"


@pytest.mark.parametrize(
    ("architecture", "flags", "expected"),
    [
        ("x86_64", ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8"), "x86_64 AMX"),
        ("x86_64", ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_bf16"), "x86_64 AVX512-VNNI"),
        ("x86_64", ("avx2", "avx_vnni"), "x86_64 AVX-VNNI"),
        ("x86_64", ("avx2", "avx512f"), "x86_64 AVX512 without VNNI"),
        ("x86_64", ("avx2",), "x86_64 AVX2 without VNNI"),
        ("x86_64", (), "x86_64 without AVX2"),
        ("AMD64", ("avx2", "avx512f"), "x86_64 AVX512 and perhaps VNNI"),
        ("AMD64", ("avx2",), "x86_64 AVX2 and perhaps VNNI"),
        ("AMD64", (), "x86_64 without AVX2"),
        ("aarch64", ("asimd", "asimddp", "i8mm"), "aarch64 i8mm"),
        ("arm64", ("asimd", "asimddp"), "aarch64 dot product"),
        ("ARM64", ("asimd",), "aarch64 without dot product"),
        ("riscv64", (), "riscv64"),
        ("armv7l", ("asimddp",), "armv7l"),
    ],
)
def test_kind(architecture, flags, expected):
    assert processor.kind(architecture, flags) == expected


@pytest.mark.parametrize(
    ("cpu", "short"),
    [
        ("Intel(R) Xeon(R) CPU @ 2.20GHz (family 6, model 79)", "Intel Xeon (family 6, model 79), x86_64 AVX-VNNI"),
        ("AMD Ryzen 9 7950X", "AMD Ryzen 9 7950X, x86_64 AVX-VNNI"),
        ("", "x86_64 AVX-VNNI"),
    ],
)
def test_short_name(cpu, short):
    assert processor.short_name(cpu, "x86_64", ("avx2", "avx_vnni")) == short


def test_here_is_this_machine():
    found = processor.here()
    assert found.cpu
    assert found.architecture == platform.machine()
    assert set(found.cpu_flags) <= set(processor.FLAGS)
    assert found.kind == processor.kind(found.architecture, found.cpu_flags)


def test_here_on_a_mac(monkeypatch):
    said = "machdep.cpu.brand_string: Apple M9\nhw.optional.AdvSIMD: 1\nhw.optional.arm.FEAT_DotProd: 1\n"
    monkeypatch.setattr(processor.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(processor.platform, "machine", lambda: "arm64")
    monkeypatch.setattr(processor, "output", lambda *command: said)
    found = processor.here()
    assert (found.cpu, found.cpu_flags, found.kind) == ("Apple M9", ("asimd", "asimddp"), "aarch64 dot product")


def test_here_on_windows(monkeypatch):
    class Kernel32:
        def __init__(self, name):
            assert name == "kernel32"

        def IsProcessorFeaturePresent(self, number):  # noqa: N802
            return number in (40, 41)

    monkeypatch.setattr(processor.platform, "system", lambda: "Windows")
    monkeypatch.setattr(processor.platform, "machine", lambda: "AMD64")
    monkeypatch.setattr(processor.platform, "processor", lambda: "Intel64 Family 6")
    monkeypatch.setattr(processor.ctypes, "WinDLL", Kernel32, raising=False)
    found = processor.here()
    assert (found.cpu, found.cpu_flags) == ("Intel64 Family 6", ("avx2", "avx512f"))
    assert found.kind == "x86_64 AVX512 and perhaps VNNI"
