"""Exit codes, the one line of an error, help, completion, and the generated page."""

import errno
import inspect
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_project import call, tledge
from typer.main import get_command

from tledge import cli, errors
from tledge.cache import open_cache
from tledge.cli import gate, reference, screen
from tledge.errors import StorageError, TledgeError

VERBS = list(get_command(cli.app).commands)
PAGE = Path(__file__).parents[2] / "docs" / "commands.md"


def one_line(done, code, *parts):
    """The exit code, and one line on standard error with these parts in order."""
    err = done.err if hasattr(done, "err") else done.stderr
    exit_code = done.code if hasattr(done, "code") else done.returncode
    assert exit_code == code, err
    [line] = err.splitlines()
    assert re.search(".*".join(map(re.escape, ("error: ", *parts))), line), line


@pytest.mark.parametrize("arguments", [["--help"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help(arguments, capfd):
    done = call(capfd, *arguments)
    assert done.code == 0
    assert done.out.startswith("Usage: ")
    assert done.err == ""


def test_every_option_says_what_it_does():
    for name, verb in get_command(cli.app).commands.items():
        assert verb.help, name
        for parameter in verb.params:
            assert parameter.help, f"{name} {parameter.name}"


def test_version(capfd):
    assert re.fullmatch(r"tledge \d+\.\d+\.\d+\n", call(capfd, "--version").out)


def test_no_verb_shows_the_help(capfd):
    done = call(capfd)
    assert done.code == 2
    assert done.err.startswith("Usage: ")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["frobnicate"], ["No such command 'frobnicate'", "--help"]),
        (["predict", "--frobnicate"], ["No such option: --frobnicate", "--help"]),
        (["export"], ["Missing argument", "--help"]),
        (["run"], ["nothing to run", "--data"]),
        (["finetune", "recipe.yaml", "--data", "photos"], ["recipe.yaml", "--data", "one of them"]),
        (["run", "recipe.yaml", "--backbone", "x"], ["--backbone", "--data", "--set"]),
    ],
)
def test_misspelt_command_line(arguments, parts, capfd):
    one_line(call(capfd, *arguments), 2, *parts)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell):
    done = tledge("--show-completion", shell, code=0, env={"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"})
    assert done.stderr == ""
    words = {"COMP_WORDS": "tledge pre", "COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": "tledge pre"}
    code = "import sys; sys.argv = ['tledge']; from tledge.cli import main; main()"
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, **words, "_TLEDGE_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    )  # fmt: skip
    assert "Traceback" not in completed.stderr
    assert "predict" in completed.stdout


def test_the_page_is_current():
    done = subprocess.run(
        [sys.executable, "-m", "tledge.cli.reference"], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout == PAGE.read_text(encoding="utf-8"), "python -m tledge.cli.reference > docs/commands.md"
    assert [f"## tledge {verb}" for verb in VERBS] == re.findall("^## .*", done.stdout, re.MULTILINE)


def test_every_exit_code_is_documented():
    tree = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, TledgeError)]
    codes = {each.exit_code for each in tree}
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", reference.INTRO, re.MULTILINE)}
    assert listed == codes | set(gate.EXIT_CODES.values()) | {0, 130}
    epilog = {int(code) for code in re.findall(r"\b(\d+) ", cli.app.info.epilog)}
    assert epilog == listed
    drawn = inspect.getdoc(errors)
    for each in tree:
        assert re.search(rf"\b{each.__name__} +(exit code )?{each.exit_code}\b", drawn), each


def caused(outer, inner):
    """`outer`, raised while `inner` was handled."""
    outer.__context__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "run/model.onnx"), ["run/model.onnx: the disk is full"]),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), ["the disk is full", "--out", "TMPDIR", "TLEDGE_CACHE"]),
        (OSError("9600 requested and 4096 written"), ["the disk is full"]),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), ["is full"]),
        (caused(RuntimeError("cannot save"), OSError(errno.ENOSPC, "No space left on device")), ["is full"]),
        (OSError(errno.EROFS, "Read-only file system", "run"), ["run: Read-only file system; choose a place"]),
        (PermissionError(errno.EACCES, "Permission denied", "rows.csv"), ["rows.csv: Permission denied"]),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), ["set TMPDIR"]),
    ],
)
def test_a_full_disk_or_a_folder_that_cannot_be_written_is_one_line(error, parts, capfd, monkeypatch):
    def fails(path):
        raise error

    monkeypatch.setattr(cli.verify, "bundle_of", fails)
    one_line(call(capfd, "verify", "x"), 15, *parts)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), ValueError("full of hope")])
def test_other_failures_are_no_full_disk(error):
    assert StorageError.of(error) is None


def test_a_cache_that_cannot_be_written_names_itself_and_its_setting(tmp_path, monkeypatch):
    plain = tmp_path / "plain"
    plain.touch()
    monkeypatch.setenv("TLEDGE_CACHE", str(plain / "cache"))
    with pytest.raises(StorageError, match=r"cannot be written: .*plain.*; set TLEDGE_CACHE to a folder that can"):
        open_cache("features")
    monkeypatch.setenv("TLEDGE_CACHE", str(tmp_path / "cache"))
    assert open_cache("features").is_dir()


def test_a_defect_keeps_its_traceback():
    code = (
        "import sys; from tledge import cli\n"
        "cli.verify.bundle_of = lambda path: 1 / 0\n"
        "sys.argv = ['tledge', 'verify', 'x']; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_bars_are_silent_where_there_is_no_terminal(capfd):
    with screen.bars()("Working", total=2) as advance:
        advance(2)
    assert capfd.readouterr() == ("", "")


def test_bars_and_tables_show_names_as_they_are(capsys, monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", stream)
    names = ("model[bold]", "a[/b]", "x|y <i> :smile:", r"c\[d]")
    for name in names:
        with screen.bars()(f"Timing {name}", total=1) as advance:
            advance(1)
    assert all(f"Timing {name}" in stream.getvalue() for name in names)
    screen.table(("[red]name", "n"), [(name, "1") for name in names])
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("[red]name", *names))


def test_bars_on_a_terminal(tiny_bundle):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    arguments = [str(tiny_bundle), "--no-torch", "--for", "50", "--length", "8"]
    with subprocess.Popen(
        [sys.executable, "-m", "tledge", "bench", *arguments], stdout=subprocess.PIPE, stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # how Linux tells that the other side is closed
                break
            if not part:
                break
            shown += part
        out = process.stdout.read()
    assert process.returncode == 0, shown
    assert b"\x1b[" in shown, "a bar moves the cursor"
    assert b"\x1b[" not in out
    assert b"int8" in out


def test_schema(capfd):
    done = call(capfd, "schema")
    assert done.code == 0
    assert '"title": "tledge recipe"' in done.out
