"""What is imported when: the device's commands and the help load nothing of the workstation's."""

import os
import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "onnx", "onnxscript", "pydantic", "datasets", "sklearn", "optimum", "pandas"}

DRIVER = """\
import sys
from tledge import cli
sys.argv = ["tledge", *sys.argv[1:]]
try:
    cli.main()
finally:
    print("imported:", *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def python(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONUTF8": "1"},
    )  # fmt: skip


@pytest.mark.parametrize("module", ["tledge", "tledge.runtime", "tledge.cli", "tledge.bench.bundled"])
def test_import(module):
    done = python(f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})")
    assert done.returncode == 0, done.stderr
    assert not HEAVY & set(done.stdout.split())
    assert "tledge" in done.stdout.split()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("run", "--help"),
        ("predict", "BUNDLE", "good"),
        ("verify", "BUNDLE"),
        ("inspect", "BUNDLE"),
        ("bench", "BUNDLE", "--no-torch", "--for", "50", "--length", "8"),
    ],
    ids=" ".join,
)
def test_command(arguments, tiny_bundle):
    done = python(DRIVER, *(tiny_bundle if argument == "BUNDLE" else argument for argument in arguments))
    assert done.returncode == 0, done.stderr
    imported = set(done.stderr.partition("imported:")[2].split())
    assert "typer" in imported
    assert not (HEAVY) & imported


def test_help_does_not_load_the_runtime():
    done = python(DRIVER, "--help")
    assert not {"numpy", "onnxruntime", "tokenizers"} & set(done.stderr.partition("imported:")[2].split())


def test_a_missing_package_is_named_with_its_cure(tmp_path):
    (tmp_path / "r.yaml").write_text("name: x\n", encoding="utf-8")
    without = "import sys; sys.modules['yaml'] = None\n" + DRIVER
    done = python(without, "run", tmp_path / "r.yaml")
    assert done.returncode == 10
    assert done.stderr.splitlines()[0] == (
        "error: the package 'yaml' is not installed; run: pip install 'tledge[train]'"
    )
