"""The talk with the far side without SSH: a shell on this machine stands for the device."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest
from loopback import is_running, wait_until

from tledge import device
from tledge.device import conversation, transport
from tledge.device.conversation import Conversation
from tledge.errors import DeviceError, RecipeError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the far side is a POSIX system")


class Shell:
    """A transport to this machine; `before` is a line for the shell, as a start-up file would hold it."""

    name = "here"

    def __init__(self, before=":"):
        self.before = before

    def command(self, words):
        return ["sh", "-c", f"{self.before}\n{words}"]

    def explain(self, code, said):
        return None


@pytest.fixture
def here(monkeypatch, source):
    """Makes the device a shell on this machine."""

    def use(before=":"):
        monkeypatch.setattr(transport, "of", lambda url, options: Shell(before))

    use()
    return use


def test_what_a_shell_prints_when_it_starts_is_passed_over(here, fake_bench, tiny_bundle):
    here("echo Welcome; echo '@tledge is here' | tr -d @; printf 'no end of line'")
    assert device.bench("here", tiny_bundle, ["--for", "99"], python=fake_bench)["words"][1:] == [
        "--json",
        "--for",
        "99",
    ]


def test_a_device_that_hears_nothing_ends_the_bench(here, far, slow_bench, tiny_bundle, monkeypatch, tmp_path):
    """As when a cable is pulled: no end of the stream, just silence."""
    impatient = tmp_path / "far.py"
    impatient.write_text(conversation.FAR.read_text().replace("SILENCE_S = 60", "SILENCE_S = 2"))
    monkeypatch.setattr(conversation, "FAR", impatient)
    monkeypatch.setattr(conversation, "HEARTBEAT_S", 1000)
    with pytest.raises(DeviceError, match="ended with exit code 0"):
        device.bench("here", tiny_bundle, python=slow_bench)
    ids = [int(word) for word in far.started.read_text().split()[:2]]
    wait_until(lambda: not any(map(is_running, ids)), "the bench ends")
    assert not (far.store / "run").exists()


def test_the_far_side_goes_on_while_it_hears_something(here, far, slow_bench, monkeypatch, tmp_path):
    """Heartbeats before the plan, and between it and the files, are no part of either."""
    with Conversation(Shell(), slow_bench, 60) as talk:
        talk._write(b"\n\n")
        talk.send_line({"files": [], "modules": ["sys", "no_such_module"], "command": []})
        talk._write(b"\n")
        found = talk.receive()
    assert found["versions"] == {"sys": "", "no_such_module": None}
    assert found["needed"] == []
    assert {path.name for path in far.store.iterdir()} == {"files", "lock"}


def test_a_far_side_that_is_asked_to_end_cleans_up(here, far, slow_bench, tiny_bundle):
    import threading

    def ask():
        wait_until(far.started.exists, "the bench started")
        bench = int(far.started.read_text().split()[0])
        parent = int(Path(f"/proc/{bench}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(parent, signal.SIGTERM)

    thread = threading.Thread(target=ask)
    thread.start()
    with pytest.raises(DeviceError, match="ended with exit code"):
        device.bench("here", tiny_bundle, python=slow_bench)
    thread.join()
    ids = [int(word) for word in far.started.read_text().split()[:2]]
    wait_until(lambda: not any(map(is_running, ids)), "the bench ends")
    assert not (far.store / "run").exists()


def test_a_file_that_becomes_shorter_is_named(here, far, fake_bench, tiny_bundle, monkeypatch):
    sent = Conversation.send_files

    def shorten(self, files):
        (tiny_bundle / "onnx" / "model.onnx").write_bytes(b"")
        return sent(self, files)

    monkeypatch.setattr(Conversation, "send_files", shorten)
    with pytest.raises(DeviceError, match=r"/onnx/model.onnx became shorter while it was sent to here; run it again"):
        device.bench("here", tiny_bundle, python=fake_bench)
    assert not list((far.store / "files").glob("*.part"))


def test_a_file_that_changes_is_not_kept(here, far, fake_bench, tiny_bundle, monkeypatch):
    sent = Conversation.send_files
    graph = tiny_bundle / "onnx" / "model.onnx"

    def change(self, files):
        graph.write_bytes(b"?" * graph.stat().st_size)
        return sent(self, files)

    monkeypatch.setattr(Conversation, "send_files", change)
    with pytest.raises(DeviceError, match="here: a file arrived damaged, or changed while it was sent"):
        device.bench("here", tiny_bundle, python=fake_bench)
    assert all(len(path.name) == 64 for path in (far.store / "files").iterdir())


def test_a_device_without_hard_links_gets_copies(here, far, tiny_bundle):
    python = far.python(
        startup="import json, os, pathlib, sys\n"
        "def refuse(*_): raise PermissionError(1, 'no links here')\n"
        "pathlib.Path.hardlink_to = refuse\n"
        "if sys.orig_argv[1:4] == ['-m', 'tledge', 'bench']:\n"
        "    print(json.dumps({'links': os.stat(sys.orig_argv[4] + '/bundle.json').st_nlink}), flush=True)\n"
        "    os._exit(0)\n"
    )
    assert device.bench("here", tiny_bundle, python=python) == {"links": 1}
    assert {path.name for path in far.store.iterdir()} == {"files", "lock"}


def test_a_broken_far_side_tells_its_last_line(here, far, tiny_bundle):
    broken = far.python(
        startup="import sys\nsys.stderr.write('first\\nlast words\\n')\nsys.stderr.flush()\nimport os\nos._exit(3)\n"
    )
    with pytest.raises(DeviceError, match="ended with exit code 3: last words"):
        device.bench("here", tiny_bundle, python=broken)


@pytest.mark.parametrize("python", ["", "-c", "a\nb"])
def test_a_python_that_is_no_program(here, tiny_bundle, python):
    with pytest.raises(RecipeError, match="--device-python"):
        device.bench("here", tiny_bundle, python=python)


def test_a_python_in_the_home_folder_there(here, far, fake_bench, tiny_bundle):
    here(f"HOME='{Path(fake_bench).parent}'; export HOME")
    assert device.bench("here", tiny_bundle, python="~/python")["words"]


def test_a_client_that_is_not_installed(monkeypatch, here, tiny_bundle):
    monkeypatch.setattr(Shell, "command", lambda self, words: ["no-such-client", words])
    with pytest.raises(DeviceError, match="there is no 'no-such-client' on this machine; install the OpenSSH client"):
        device.bench("here", tiny_bundle)


def test_progress_adds_up_and_heartbeats_are_no_answer(here, fake_bench, tiny_bundle, monkeypatch):
    monkeypatch.setattr(conversation, "HEARTBEAT_S", 0.001)
    shown, said = [], []

    @contextlib.contextmanager
    def progress(description, total):
        shown.append((description, total))
        yield shown.append

    device.bench("here", tiny_bundle, python=fake_bench, progress=progress, say=said.append)
    (description, total), *steps = shown
    assert description == "Sending to here (kB)"
    assert total - 1 <= sum(steps) <= total
    assert said[-1] == "half-way"
