"""Bundles with int8 variants verify on an emulated Arm processor: what was stored on this machine holds there."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import sealing
from safetensors.numpy import load_file, save_file

from tledge import bundle
from tledge.bundle import checksum
from tledge.cache import cache_folder

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "arm64.sh"


def make(folder, **environment):
    return subprocess.run(
        ["bash", SCRIPT, folder], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


@pytest.fixture(scope="session")
def device():
    """The Python of an emulated device, made once and kept in tledge's cache."""
    checkout = hashlib.sha256(str(SCRIPT).encode()).hexdigest()[:8]  # tledge itself is linked
    done = make(cache_folder() / f"arm64-{checkout}")
    if done.returncode:
        pytest.skip(f"no emulated device can be made here: {done.stderr.strip()}")
    return done.stdout.strip()


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The bundles by their kind."""
    import scheme_bundles  # torch comes with it

    folder = tmp_path_factory.mktemp("bundles")
    return {
        "text": scheme_bundles.text(folder / "text"),
        "image": scheme_bundles.pictures(folder / "image"),
        "language": scheme_bundles.language(folder / "language"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text", "image", "language"])
@pytest.mark.parametrize("processor", ["cortex-a72", "cortex-a76"])
def test_int8_verifies_on_arm(kind, processor, device, made):
    done = subprocess.run(
        [device, "-m", "tledge", "verify", made[kind], "--json"],
        capture_output=True, text=True, check=False, env={**os.environ, "CPU": processor},
    )  # fmt: skip
    assert done.stdout, done.stderr
    checks = {check["name"]: check["detail"] for check in json.loads(done.stdout)["checks"] if not check["passed"]}
    assert checks == {}
    assert done.returncode == 0


@pytest.mark.slow
def test_a_device_of_another_kind_is_really_there(device):
    code = "import platform; print(platform.machine())"
    assert subprocess.run([device, "-c", code], capture_output=True, text=True, check=True).stdout == "aarch64\n"


@pytest.mark.slow
def test_another_answer_is_found_there(device, made, tmp_path):
    """The stored outputs of one case are changed, which only running the graphs can find."""
    folder = made["text"]
    manifest = json.loads((folder / "bundle.json").read_text())
    assert bundle.load(folder).golden.tolerance["int8_dynamic"] < 0.2
    wrong = tmp_path / "wrong"
    shutil.copytree(folder, wrong)
    tensors = load_file(wrong / "golden.safetensors")
    tensors["0.output.int8_dynamic.logits"] += 0.2 * max(
        abs(tensor).max() for name, tensor in tensors.items() if ".output.int8_dynamic." in name
    )
    save_file(tensors, wrong / "golden.safetensors")
    sealing.write(wrong / "bundle.json", manifest | {"files": checksum.hashes(wrong)})
    done = subprocess.run(
        [device, "-m", "tledge", "verify", wrong, "--json"], capture_output=True, text=True, check=False
    )
    failed = [check["name"] for check in json.loads(done.stdout)["checks"] if not check["passed"]]
    assert failed == ["golden int8_dynamic"]


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("keep")
    done = make(tmp_path)
    if "is missing" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 1
    assert done.stderr == f"arm64.sh: {tmp_path} holds something else: give a new or empty folder\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_what_is_missing_is_said_in_one_line(tmp_path):
    done = make(tmp_path / "device", PYTHON="/nowhere/python")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "is missing" in done.stderr
    assert not (tmp_path / "device").exists()
