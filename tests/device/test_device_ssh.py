"""A device over SSH, end to end, with a real server on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from loopback import free_port, is_running, options, wait_until

from tledge import artifacts, device
from tledge.device import conversation
from tledge.errors import BundleError, DeviceError, InputError

QUICK = ["--no-torch", "--for", "50", "--length", "8", "--duration", "1"]


@pytest.fixture
def bench(ssh_server, far, source):
    """`device.bench` on the server; keywords change it."""

    def call(bundle, arguments=QUICK, *, url=ssh_server.url, **changes):
        keywords = {"python": far.python(), "options": ssh_server.options, "timeout_s": 120}
        return device.bench(url, bundle, arguments, **(keywords | changes))

    return call


def stored(far):
    return {path.name for path in (far.store / "files").iterdir()}


def nothing_but_whole_files_is_left(far):
    assert {path.name for path in far.store.iterdir()} == {"files", "lock"}
    assert all(len(name) == 64 for name in stored(far))


def test_the_record_comes_back_and_only_what_changed_is_sent_again(bench, far, fake_bench, tiny_bundle):
    said = []
    record = bench(tiny_bundle, say=said.append)
    result = artifacts.from_dict(artifacts.BenchResult, record)
    assert {latency.candidate for latency in result.latencies} >= {"fp32", "int8"}
    assert result.machine.cores >= 1
    first = stored(far)
    assert said[0].startswith(f"sending {len(first)} of {len(first)} files to ")
    nothing_but_whole_files_is_left(far)

    (tiny_bundle / "README.md").write_text("# Changed\n")
    (far.store / "files" / "left-by-another-run").write_text("")
    said.clear()
    bench(tiny_bundle, python=fake_bench, say=said.append)
    assert said[0].startswith(f"sending 1 of {len(first)} files to ")
    assert len(stored(far) - first) == len(first - stored(far)) == 1
    nothing_but_whole_files_is_left(far)


def test_a_path_among_the_arguments_is_sent_too(bench, far, fake_bench, tiny_bundle, tmp_path):
    other, graph = Path(shutil.copytree(tiny_bundle, tmp_path / "other one")), tiny_bundle / "onnx" / "model.onnx"
    said = []
    got = bench(tiny_bundle, ["--against", other, "--for", "p99 $(x)", graph], python=fake_bench, say=said.append)
    run = far.store / "run"
    there = [f"{run}/sent/0/bundle", "--json", "--against", f"{run}/sent/1/other one", "--for", "p99 $(x)"]
    assert got["hex"] == [word.encode().hex() for word in [*there, f"{run}/sent/2/model.onnx"]]
    here = [str(tiny_bundle), "--json", "--against", str(other), "--for", "p99 $(x)", str(graph)]
    assert got["words"] == here  # a record names paths as they are called here
    assert got["code"].startswith(f"{run}/code{os.pathsep}")
    assert got["temporary"] == f"{run}/temporary"
    assert said[-1] == "half-way"
    nothing_but_whole_files_is_left(far)


def test_a_mistake_found_there_is_that_mistake_here(bench, far, ssh_server, tiny_bundle):
    with pytest.raises(InputError) as caught:
        bench(tiny_bundle, [*QUICK, "--variant", "int9"])
    assert str(caught.value).startswith(f"on {ssh_server.name}: --variant: 'int9' is not in {tiny_bundle}; known are")
    nothing_but_whole_files_is_left(far)


@pytest.mark.parametrize("damage", ["changed", "halved"])
def test_a_file_that_the_device_forgot_is_sent_again(bench, far, fake_bench, tiny_bundle, damage):
    bench(tiny_bundle, python=fake_bench)
    victim = max((far.store / "files").iterdir(), key=lambda path: path.stat().st_size)
    content = victim.read_bytes()
    victim.chmod(0o600)
    victim.write_bytes(content[: len(content) // 2] if damage == "halved" else content[:-1] + b"?")
    said = []
    bench(tiny_bundle, python=fake_bench, say=said.append)
    assert said[0].startswith("sending 1 of ")
    assert victim.read_bytes() == content


def children(process):
    found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in found]


def when_started(far, action):
    """Do something as soon as the slow bench runs; gives the process ids of it and of its child."""
    ids = []

    def watch():
        wait_until(far.started.exists, "the bench started")
        ids.extend(int(word) for word in far.started.read_text().split()[:2])
        action()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread, ids


def assert_cleaned_up(far, ids):
    wait_until(lambda: not any(map(is_running, ids)), "the bench there ends")
    wait_until(lambda: not (far.store / "run").exists(), "its folder is removed")
    nothing_but_whole_files_is_left(far)


def test_a_cut_connection_ends_the_bench_there(bench, far, ssh_server, slow_bench, fake_bench, tiny_bundle):
    def cut():
        for child in children(ssh_server.process.pid):
            os.kill(child, signal.SIGKILL)

    thread, ids = when_started(far, cut)
    with pytest.raises(DeviceError, match="the connection was cut") as caught:
        bench(tiny_bundle, python=slow_bench)
    thread.join()
    assert "\n" not in str(caught.value)
    assert_cleaned_up(far, ids)
    assert bench(tiny_bundle, python=fake_bench)  # nothing stands in the way of the next


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('no json')", "the bench printed no JSON object but 'no json"),
        ("print([1, 2])", "the bench printed no JSON object but "),
        ("1 / 0", "the bench failed with exit code 1: ZeroDivisionError: division by zero"),
        ("os.kill(os.getpid(), 9)", "the bench was ended by signal 9; was its memory used up?"),
        ("sys.stderr.write('error: one\\nerror: two\\n'); sys.exit(8)", "on .*: one; two$"),
    ],
)
def test_a_bench_that_fails_there(bench, far, tiny_bundle, code, said):
    failing = far.python(
        startup="import os, sys, runpy\n"
        f"def fail(*_, **__):\n    {code}\n    sys.exit()\n"
        "if sys.orig_argv[1:4] == ['-m', 'tledge', 'bench']:\n    runpy._run_module_as_main = fail\n"
    )
    with pytest.raises(BundleError if "(8)" in code else DeviceError, match=said) as caught:
        bench(tiny_bundle, python=failing)
    assert "\n" not in str(caught.value)
    nothing_but_whole_files_is_left(far)


def test_time_over_ends_the_bench_there(bench, far, slow_bench, tiny_bundle, monkeypatch):
    timers = []

    class ByHand(threading.Timer):
        def start(self):
            timers.append(self)

    monkeypatch.setattr(conversation.threading, "Timer", ByHand)
    thread, ids = when_started(far, lambda: timers.pop().function())
    with pytest.raises(DeviceError, match="not finished after 120 s; allow more with --device-timeout"):
        bench(tiny_bundle, python=slow_bench)
    thread.join()
    assert_cleaned_up(far, ids)


def test_ctrl_c_ends_the_bench_there(bench, far, slow_bench, tiny_bundle):
    thread, ids = when_started(far, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        bench(tiny_bundle, python=slow_bench)
    thread.join()
    assert not any(map(is_running, ids))  # it was waited for
    assert_cleaned_up(far, ids)


def test_one_bench_at_a_time(bench, far, slow_bench, tiny_bundle, monkeypatch, tmp_path):
    hasty = tmp_path / "far.py"
    hasty.write_text(conversation.FAR.read_text().replace("LOCK_S = 3.0", "LOCK_S = 0.0"))
    monkeypatch.setattr(conversation, "FAR", hasty)
    second = []

    def try_another():
        try:
            with pytest.raises(DeviceError) as caught:
                bench(tiny_bundle, python=far.python())
            second.append(str(caught.value))
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    thread, ids = when_started(far, try_another)
    with pytest.raises(KeyboardInterrupt):
        bench(tiny_bundle, python=slow_bench)
    thread.join()
    assert second[0].endswith("another bench runs there already; wait until it is over")
    assert_cleaned_up(far, ids)


def test_nobody_listens(bench, tiny_bundle):
    with pytest.raises(DeviceError, match=r"no SSH server answers .*Connection refused"):
        bench(tiny_bundle, url=f"ssh://127.0.0.1:{free_port()}")


def test_no_such_host(bench, tiny_bundle):
    with pytest.raises(DeviceError, match="no such host"):
        bench(tiny_bundle, url="ssh://no-such-host.invalid")


def test_the_key_is_not_taken(bench, ssh_server, tiny_bundle):
    with pytest.raises(DeviceError, match=r"takes none of the keys offered \(.*Permission denied.*ssh-copy-id -p "):
        bench(tiny_bundle, options=options(ssh_server.folder, IdentityFile=ssh_server.folder / "stranger"))


def test_an_unknown_host_is_not_accepted(bench, ssh_server, tiny_bundle, tmp_path):
    known = tmp_path / "known_hosts"
    known.touch()
    with pytest.raises(DeviceError, match=r"its host key is not known here; .*ssh-keyscan -p ") as caught:
        bench(tiny_bundle, options=options(ssh_server.folder, UserKnownHostsFile=known))
    assert "\n" not in str(caught.value)
    assert known.read_text() == ""


def test_a_changed_host_key_is_not_accepted(bench, ssh_server, tiny_bundle, tmp_path):
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{ssh_server.port} {(ssh_server.folder / 'stranger.pub').read_text()}")
    with pytest.raises(DeviceError, match="another host key than the one known here") as caught:
        bench(tiny_bundle, options=options(ssh_server.folder, UserKnownHostsFile=known))
    assert "\n" not in str(caught.value)


def test_no_python_there(bench, ssh_server, far, tiny_bundle):
    with pytest.raises(DeviceError) as caught:
        bench(tiny_bundle, python="no-such-python")
    assert str(caught.value) == (
        f"{ssh_server.name}: there is no no-such-python; install Python 3.11 or newer there, "
        "or name one with --device-python"
    )
    assert not far.store.exists()


def test_a_name_is_no_command_line(bench, tiny_bundle, tmp_path):
    with pytest.raises(DeviceError, match="there is no "):
        bench(tiny_bundle, python=f"x; touch '{tmp_path}/touched' $(touch {tmp_path}/touched)")
    assert not (tmp_path / "touched").exists()


def test_an_old_python_there(bench, far, tiny_bundle):
    old = far.python(startup="import sys\nsys.version_info = (3, 9, 2, 'final', 0)\n")
    with pytest.raises(DeviceError, match=r"there is Python 3.9, and 3.11 or newer is needed"):
        bench(tiny_bundle, python=old)


def test_missing_packages_are_named_with_the_command_that_brings_them(bench, far, tiny_bundle):
    bare = far.python(flags="-S")
    with pytest.raises(
        DeviceError, match=r"lacks numpy \(missing\), onnxruntime \(missing\), .*; run there: "
    ) as caught:
        bench(tiny_bundle, python=bare)
    assert "-m pip install 'numpy>=" in str(caught.value)
    nothing_but_whole_files_is_left(far)
    assert not stored(far)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 kB in memory."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tledge-test", folder], capture_output=True, check=False
        ).returncode
    )
    if not mounted:
        pytest.skip("a small disk can be made by root alone, where mounting is allowed")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_too_small_a_disk_is_found_before_sending(bench, far, small_disk, tiny_bundle):
    said = []
    with pytest.raises(DeviceError, match=r"no room for [\d,]+ bytes in .*/small/tledge/device, where [\d,]+ are free"):
        bench(tiny_bundle, python=far.python(cache=small_disk), say=said.append)
    assert said == []
    assert not list((small_disk / "tledge" / "device" / "files").iterdir())


def test_a_disk_that_fills_up_meanwhile(bench, far, small_disk, tiny_bundle):
    lying = "import shutil\nshutil.disk_usage = lambda path: shutil._ntuple_diskusage(10**9, 0, 10**9)\n"
    with pytest.raises(DeviceError, match=r"the disk is full: [\d,]+ bytes more were needed in ") as caught:
        bench(tiny_bundle, python=far.python(cache=small_disk, startup=lying))
    assert "\n" not in str(caught.value)
    store = small_disk / "tledge" / "device"
    assert {path.name for path in store.iterdir()} == {"files", "lock"}
    assert all(len(path.name) == 64 for path in (store / "files").iterdir())


def test_a_cache_that_cannot_be_written(bench, far, tiny_bundle, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DeviceError, match="Not a directory"):
        bench(tiny_bundle, python=far.python(cache=tmp_path / "file"))


def test_the_command_line(ssh_server, tiny_bundle):
    """Its options reach the device, and what is missing there is one line with exit code 14."""
    asked = ["--device", ssh_server.url, "--device-python", "no-such-python", "--device-timeout", "120"]
    options = [word for option in ssh_server.options for word in ("--ssh-option", option)]
    command = [sys.executable, "-m", "tledge", "bench", tiny_bundle, *asked, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 14, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"error: {ssh_server.name}: there is no no-such-python; install ")
    assert "Traceback" not in done.stderr
