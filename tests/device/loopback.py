"""What the tests of devices share: waiting, keys, and what a client needs that knows only this server."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

LIMIT_S = 30


def wait_until(true, what, limit_s=LIMIT_S):
    """Ask again and again; the limit is generous, since it decides nothing but how long a failure takes."""
    until = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < until, f"not within {limit_s} s: {what}"
        time.sleep(0.02)


def is_running(process):
    """Whether a process lives; one that ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def make_key(path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.with_suffix(".pub").read_text()


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def options(folder, **changes):
    """What keeps a client from the configuration, the keys and the known hosts of whoever runs the tests."""
    settings = {
        "IdentityFile": folder / "client",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "UserKnownHostsFile": folder / "known_hosts",
        "GlobalKnownHostsFile": "/dev/null",
    }
    return [f"{key}={value}" for key, value in (settings | changes).items()]
