import dataclasses
import subprocess
import sys

import onnxruntime as ort
import pytest

from tledge.artifacts import Machine, from_dict, to_dict
from tledge.bench import machine

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
    assert machine.parse_cpuinfo(text) == (name, flags)


def test_sysctl_of_both_kinds_of_mac():
    arm = "machdep.cpu.brand_string: Apple M9\nhw.optional.AdvSIMD: 1\nhw.optional.arm.FEAT_DotProd: 1\n"
    arm += "hw.optional.arm.FEAT_I8MM: 1\nhw.optional.arm.FEAT_BF16: 0\n"
    assert machine.parse_sysctl(arm) == ("Apple M9", ("asimd", "asimddp", "i8mm"))
    intel = "machdep.cpu.brand_string: Core i9\nmachdep.cpu.features: FPU SSE2\n"
    intel += "machdep.cpu.leaf7_features: AVX2 AVX512F\n"
    assert machine.parse_sysctl(intel) == ("Core i9", ("avx2", "avx512f"))


def test_describe_is_whole_and_survives_json():
    here = machine.describe()
    assert here.cpu
    assert here.cores >= 1
    assert here.memory_mb > 100
    assert set(here.cpu_flags) <= set(machine.FLAGS)
    assert here.onnxruntime == ort.__version__
    assert "CPUExecutionProvider" in here.providers
    assert {"numpy", "onnxruntime"} <= set(here.packages)
    assert from_dict(Machine, to_dict(here)) == here


def test_fingerprint_depends_on_what_determines_speed_alone():
    here = machine.describe()
    same = dataclasses.replace(here, load_average=99.0, python="4.0", memory_mb=1.0, packages={})
    assert machine.fingerprint(same) == machine.fingerprint(here)
    assert len(machine.fingerprint(here)) == 12
    for change in (
        {"cpu": "x"},
        {"cores": 999},
        {"quota_cores": 0.25},
        {"onnxruntime": "0"},
        {"cpu_flags": ()},
    ):
        if all(getattr(here, name) == value for name, value in change.items()):
            continue
        assert machine.fingerprint(dataclasses.replace(here, **change)) != machine.fingerprint(here)


def test_the_quota_is_the_runtimes(monkeypatch):
    monkeypatch.setattr(machine, "quota_cores", lambda: 1.5)
    assert machine.describe().quota_cores == 1.5


def test_the_bench_room_imports_nothing_heavy():
    code = "import sys, tledge.bench, tledge.bench.child, tledge.bench.table; tledge.bench.machine.describe(); "
    code += "heavy = ('torch', 'transformers', 'onnx', 'pydantic', 'yaml', 'psutil', 'scipy'); "
    code += "print([name for name in heavy if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
