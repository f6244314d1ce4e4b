import dataclasses
import subprocess
import sys

import onnxruntime as ort
import pytest

from tledge import processor
from tledge.artifacts import Machine, from_dict, to_dict
from tledge.bench import machine


def test_describe_is_whole_and_survives_json():
    here = machine.describe()
    assert here.cpu
    assert here.cores >= 1
    assert here.memory_mb > 100
    assert set(here.cpu_flags) <= set(processor.FLAGS)
    assert here.onnxruntime == ort.__version__
    assert "CPUExecutionProvider" in here.providers
    assert {"numpy", "onnxruntime"} <= set(here.packages)
    assert here.onnxruntime_build
    assert "ORT Build Info" not in here.onnxruntime_build
    assert here.fingerprint == machine.fingerprint(here)
    assert from_dict(Machine, to_dict(here)) == here


def test_fingerprint_depends_on_what_determines_speed_alone():
    here = machine.describe()
    same = dataclasses.replace(here, load_average=99.0, python="4.0", memory_mb=1.0, packages={}, fingerprint="")
    same = dataclasses.replace(same, frequency_mhz=1.0, max_frequency_mhz=2.0, governor="x", temperature_c=99.0)
    same = dataclasses.replace(same, system=f"{here.system.split()[0]} 99.0")
    assert machine.fingerprint(same) == machine.fingerprint(here)
    assert len(machine.fingerprint(here)) == 12
    for change in (
        {"cpu": "x"},
        {"cores": 999},
        {"quota_cores": 0.25},
        {"onnxruntime": "0"},
        {"cpu_flags": ()},
        {"onnxruntime_build": "another"},
        {"providers": ("CUDAExecutionProvider", *here.providers)},
    ):
        if all(getattr(here, name) == value for name, value in change.items()):
            continue
        assert machine.fingerprint(dataclasses.replace(here, **change)) != machine.fingerprint(here)


def test_the_quota_is_the_runtimes(monkeypatch):
    monkeypatch.setattr(machine, "quota_cores", lambda: 1.5)
    assert machine.describe().quota_cores == 1.5


def test_the_bench_room_imports_nothing_heavy():
    code = "import sys, tledge.bench, tledge.footprint.child, tledge.bench.table; tledge.bench.machine.describe(); "
    code += "heavy = ('torch', 'transformers', 'onnx', 'pydantic', 'yaml', 'psutil', 'scipy'); "
    code += "print([name for name in heavy if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def cores_1_and_2(monkeypatch):
    monkeypatch.setattr(machine, "affinity", lambda: {1, 2})
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")


@pytest.mark.usefixtures("cores_1_and_2")
def test_frequency_and_governor_are_of_the_cores_that_we_may_use(tmp_path):
    for core, (now, most, rule) in enumerate(
        [(9e6, 9e6, "x"), (1.2e6, 3e6, "powersave"), (2.4e6, 3.5e6, "performance")]
    ):
        folder = tmp_path / f"cpu{core}" / "cpufreq"
        write(folder / "scaling_cur_freq", f"{now:.0f}\n")
        write(folder / "scaling_max_freq", f"{most:.0f}\n")
        write(folder / "scaling_governor", f"{rule}\n")
    assert machine.frequencies_mhz(cpus=tmp_path, cpuinfo=tmp_path / "none") == (2400, 3500)
    assert machine.governor(cpus=tmp_path) == "performance, powersave"


@pytest.mark.usefixtures("cores_1_and_2")
def test_frequency_without_cpufreq_is_that_of_cpuinfo(tmp_path):
    blocks = (f"processor\t: {core}\ncpu MHz\t\t: {mhz}\n" for core, mhz in enumerate((9000, 2596.1, 2000.5)))
    write(tmp_path / "cpuinfo", "\n".join(blocks))
    assert machine.frequencies_mhz(cpus=tmp_path / "none", cpuinfo=tmp_path / "cpuinfo") == (2596.1, None)
    assert machine.frequencies_mhz(cpus=tmp_path / "none", cpuinfo=tmp_path / "none") == (None, None)
    assert machine.governor(cpus=tmp_path / "none") == ""


def test_frequency_of_a_mac():
    text = "hw.cpufrequency: 2300000000\nhw.cpufrequency_max: 4800000000\n"
    assert machine.parse_sysctl_mhz(text) == (2300, 4800)
    assert machine.parse_sysctl_mhz("") == (None, None)  # Apple's own processors


def test_temperature_is_the_hottest_that_can_be_true(tmp_path):
    thermal, hwmon = tmp_path / "thermal", tmp_path / "hwmon"
    assert machine.temperature_c(thermal=thermal, hwmon=hwmon) is None
    for zone, value in enumerate(("-273200", "0", "255000", "", "nonsense")):
        write(thermal / f"thermal_zone{zone}" / "temp", value)
    assert machine.temperature_c(thermal=thermal, hwmon=hwmon) is None
    write(thermal / "thermal_zone9" / "temp", "41500\n")
    write(hwmon / "hwmon0" / "temp1_input", "67000\n")
    write(hwmon / "hwmon0" / "temp1_crit", "100000\n")
    write(hwmon / "hwmon1" / "temp2_input", "127000\n")
    assert machine.temperature_c(thermal=thermal, hwmon=hwmon) == 67.0


def test_builds_of_one_version_are_told_apart():
    plain = "ORT Build Info: git-branch=HEAD, git-commit-id=abc123, some-option=1, build type=Release"
    assert machine.parse_build(plain) == "abc123, some-option=1, Release"
    flagged = [f"{plain}, cmake cxx flags: -O{level}, -march=native" for level in (2, 3)]
    one, other = (machine.parse_build(text) for text in flagged)
    assert one.startswith("abc123, some-option=1, Release, flags ")
    assert one != other
    assert len(one) == len(other)
    assert machine.parse_build("") == ""
