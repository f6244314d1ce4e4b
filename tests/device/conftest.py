"""A real SSH server on this machine, and a Python "on the device" with a cache of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from loopback import LIMIT_S, answers, free_port, make_key, options, wait_until

from tledge.device import contents


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory):
    """A server for this user: `url`, `options` for the client, `folder` with keys, `port`, `process`."""
    server = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin")
    if server is None or shutil.which("ssh") is None or not Path("/proc/self/stat").exists():
        pytest.skip("no OpenSSH server and client here; with Debian: apt-get install openssh-server openssh-client")
    import pwd

    folder, port, user = tmp_path_factory.mktemp("ssh"), free_port(), pwd.getpwuid(os.geteuid()).pw_name
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where a server that root starts wants an empty folder
    host_key, _ = make_key(folder / "host"), make_key(folder / "stranger")
    (folder / "authorized_keys").write_text(make_key(folder / "client"))
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "PidFile": "none",
        "UsePAM": "no",
        "StrictModes": "no",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "AllowUsers": user,
    }
    config = folder / "sshd_config"
    config.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    # Newer servers would keep away a client whose connections are cut and whose keys are wrong.
    patient = ["-o", "PerSourcePenalties=no"]
    knows = subprocess.run([server, "-t", "-f", config, *patient], capture_output=True, check=False).returncode == 0
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([server, "-D", "-e", "-f", config, *(patient if knows else [])], stderr=log)
    try:
        wait_until(lambda: answers(port) or process.poll() is not None, "the server answers")
        assert process.poll() is None, (folder / "log").read_text()
        yield SimpleNamespace(
            url=f"ssh://{user}@127.0.0.1:{port}",
            name=f"{user}@127.0.0.1:{port}",
            options=options(folder),
            folder=folder,
            port=port,
            process=process,
        )
    finally:
        process.terminate()
        process.wait(LIMIT_S)


@pytest.fixture(scope="session")
def source_copy(tmp_path_factory):
    """A copy of tledge's source, which nobody edits while the tests run."""
    return shutil.copytree(
        contents.PACKAGE, tmp_path_factory.mktemp("source") / "tledge", ignore=shutil.ignore_patterns("__pycache__")
    )


@pytest.fixture
def source(source_copy, monkeypatch):
    """Sends that copy."""
    monkeypatch.setattr(contents, "PACKAGE", source_copy)
    return source_copy


@pytest.fixture
def far(tmp_path):
    """The device's side: `cache`, `store`, and `python(...)`, which writes a Python that keeps to that cache."""
    cache = tmp_path / "far-cache"
    cache.mkdir()

    def python(*, flags="", startup="", cache=cache):
        """A program that runs this Python; `startup` is code that each Python runs first, the bench's among them."""
        folder = tmp_path / f"far-python-{len(list(tmp_path.glob('far-python-*')))}"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(startup)
        script = folder / "python"
        script.write_text(
            f"#!/bin/sh\nexport XDG_CACHE_HOME='{cache}' PYTHONPATH='{folder}'\n"
            f"exec '{sys.executable}' {flags} \"$@\"\n"
        )
        script.chmod(0o755)
        return str(script)

    store = cache / "tledge" / "device"
    return SimpleNamespace(cache=cache, store=store, python=python, started=tmp_path / "started")


@pytest.fixture
def fake_bench(far):
    """A far Python whose bench prints as JSON the words of its command line, also in hexadecimal, and its folders."""
    return far.python(
        startup="""\
import json, os, sys
words = sys.orig_argv[4:]
if sys.orig_argv[1:4] == ["-m", "tledge", "bench"]:
    print("half-way", file=sys.stderr, flush=True)
    found = {"words": words, "hex": [word.encode().hex() for word in words], "temporary": os.environ["TMPDIR"]}
    print(json.dumps(found | {"code": os.environ["PYTHONPATH"]}), flush=True)
    os._exit(0)
"""
    )


@pytest.fixture
def slow_bench(far):
    """A far Python whose bench starts a child, writes both process ids to `far.started`, and then waits for ever."""
    return far.python(
        startup=f"""\
import os, subprocess, sys, time
if sys.orig_argv[1:4] == ["-m", "tledge", "bench"]:
    child = subprocess.Popen(["sleep", "600"])
    with open({str(far.started)!r} + ".part", "w") as file:
        file.write(f"{{os.getpid()}} {{child.pid}} {{os.getcwd()}}")
    os.rename({str(far.started)!r} + ".part", {str(far.started)!r})
    time.sleep(600)
"""
    )
