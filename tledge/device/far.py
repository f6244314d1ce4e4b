"""What runs on a device: it keeps the files by hash, benches, and cleans up. See `tledge.device` for the talk.

It is sent there as text and knows the standard library alone. Everything lies in `tledge/device` in the user's cache
folder: `files/` has each file under its SHA-256, `run/` is the folder of the bench that runs, and `lock` is held by it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import selectors
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SILENCE_S = 60
"""How long the near side may be silent before it counts as gone; it is heard every ten seconds."""
LOCK_S = 3.0
"""Seconds that a bench whose connection was cut may take to clean up before the next one is refused."""
PIECE = 1 << 16
FULL = (errno.ENOSPC, errno.EDQUOT)


class GoneError(Exception):
    """The near side is gone, or this process was asked to end."""


class RefusedError(Exception):
    """What the near side is to tell its user."""


def main() -> None:
    """Read the plan, ask for what is missing, bench, answer."""
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _leave)
    store = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve() / "tledge" / "device"
    try:
        plan = _line()
        (store / "files").mkdir(parents=True, exist_ok=True)
        store.chmod(0o700)  # a bundle may be nobody else's business
        with _locked(store) as lock:
            done = _work(store, plan, lock)
        _reply(done)
    except GoneError:
        pass
    except RefusedError as error:
        _reply({"error": str(error)})
    except OSError as error:
        with contextlib.suppress(OSError):
            _reply({"error": str(error)})


def _work(store: Path, plan: dict[str, Any], lock: int) -> dict[str, Any]:
    """The exit code and the output of the command, with its files in place."""
    run = store / "run"
    sizes = {sha256: size for _, sha256, size in plan["files"]}
    _remove(run)
    needed = [sha256 for sha256 in sizes if not _is_whole(store / "files" / sha256, sha256)]
    unused = [path for path in (store / "files").iterdir() if path.name not in sizes]
    _reply(_found(plan, store, needed, sum(path.stat().st_size for path in unused)))
    if _line() != "go":
        raise GoneError
    for path in unused:  # before the new ones come: a small disk need not hold both
        path.unlink(missing_ok=True)
    for number, sha256 in enumerate(needed):
        try:
            _receive(store / "files" / sha256, sha256, sizes[sha256])
        except OSError as error:
            raise _full(error, store, sum(sizes[after] for after in needed[number:])) from error
    try:
        _arrange(run, store / "files", plan["files"])
        return _bench(run, plan["command"], lock)
    finally:
        _remove(run)


def _found(plan: dict[str, Any], store: Path, needed: list[str], unused_bytes: int) -> dict[str, Any]:
    """What this machine is and has."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": _versions(plan["modules"]),
        "managed": sys.prefix == sys.base_prefix and Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists(),
        "store": str(store),
        "run": str(store / "run"),
        "free_bytes": shutil.disk_usage(store).free + unused_bytes,
        "needed": needed,
    }


def _versions(modules: list[str]) -> dict[str, str | None]:
    """The version of each module's distribution, an empty string when nothing tells it, `None` without the module."""
    distributions = importlib.metadata.packages_distributions()
    found: dict[str, str | None] = {}
    for module in modules:
        names = distributions.get(module, ())
        if not _is_there(module):
            found[module] = None
        else:
            found[module] = importlib.metadata.version(names[0]) if names else ""
    return found


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it would be in is missing
        return False


def _is_whole(path: Path, sha256: str) -> bool:
    """Whether a file is there with the content that its name says; memory cards forget."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


def _receive(path: Path, sha256: str, size: int) -> None:
    """Write what comes in to a file, which gets its name when it is whole."""
    part, seen, left = path.with_suffix(".part"), hashlib.sha256(), size
    try:
        with part.open("wb") as file:
            while left:
                piece = _heard(min(PIECE, left))
                seen.update(piece)
                file.write(piece)
                left -= len(piece)
        if seen.hexdigest() != sha256:
            raise RefusedError("a file arrived damaged, or changed while it was sent; run it again")
        part.chmod(0o400)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _arrange(run: Path, files: Path, wanted: list[list[Any]]) -> None:
    """The run folder: each file under its name, linked where the file system can, else copied.

    Links are hard ones: onnxruntime takes no data that a symbolic link leads to outside a graph's folder.
    """
    (run / "temporary").mkdir(parents=True)
    for name, sha256, size in wanted:
        target = run / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.hardlink_to(files / sha256)
        except OSError:
            try:
                shutil.copyfile(files / sha256, target)
            except OSError as error:
                raise _full(error, run, size) from error


def _bench(run: Path, command: list[str | dict[str, str]], lock: int) -> dict[str, Any]:
    """Run the command in a session of its own, and end all of it when the near side goes.

    It keeps the lock too: should this process be killed, no second bench disturbs the one left.
    """
    words = [word if isinstance(word, str) else str(run / word["sent"]) for word in command]
    paths = [str(run / "code"), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONUTF8": "1",
        "TMPDIR": str(run / "temporary"),
    }
    started = subprocess.Popen(
        [sys.executable, *words],
        cwd=run / "code",  # where `-m` looks first
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        pass_fds=[lock],
    )
    try:
        out, said = _listen(started)
        return {"code": started.wait(), "stdout": out, "stderr": said}
    finally:
        signal.alarm(0)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def _listen(started: subprocess.Popen[bytes]) -> tuple[str, str]:
    """The output and the errors of the bench, which are passed on line by line, too."""
    assert started.stdout is not None
    assert started.stderr is not None
    out, said, rest = bytearray(), bytearray(), b""
    with selectors.DefaultSelector() as selector:
        for stream in (0, started.stdout, started.stderr):
            selector.register(stream, selectors.EVENT_READ)
        signal.alarm(SILENCE_S)
        while len(selector.get_map()) > 1:
            for key, _ in selector.select():
                piece = os.read(key.fd, PIECE)
                if key.fd == 0:
                    if not piece:
                        raise GoneError
                    signal.alarm(SILENCE_S)
                elif not piece:
                    selector.unregister(key.fileobj)
                elif key.fileobj is started.stdout:
                    out += piece
                else:
                    said += piece
                    *lines, rest = (rest + piece).split(b"\n")
                    for line in lines:
                        _reply({"say": line.decode(errors="replace")})
    return out.decode(errors="replace"), said.decode(errors="replace")


@contextlib.contextmanager
def _locked(store: Path) -> Iterator[int]:
    """Hold the lock of the store: two benches at once would slow each other down."""
    with (store / "lock").open("w") as lock:
        until = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise RefusedError("another bench runs there already; wait until it is over") from None
                time.sleep(0.1)
        yield lock.fileno()


def _full(error: OSError, folder: Path, needed_bytes: int) -> Exception:
    """The error for the near side's user when a disk is full, else the error itself."""
    if error.errno not in FULL:
        return error
    free = shutil.disk_usage(folder).free
    return RefusedError(
        f"the disk is full: {needed_bytes:,} bytes more were needed in {folder}, where {free:,} are free; "
        "free some, or set XDG_CACHE_HOME there to a larger disk"
    )


def _remove(folder: Path) -> None:
    """Remove a run folder, whatever signal comes meanwhile."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP, signal.SIGTERM, signal.SIGALRM))
    try:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _line() -> Any:
    """The next line from the near side, a JSON value; empty ones only say that it is there."""
    while True:
        signal.alarm(SILENCE_S)
        line = sys.stdin.buffer.readline()
        signal.alarm(0)
        if not line.endswith(b"\n"):
            raise GoneError
        if line.strip():
            return json.loads(line)


def _heard(size: int) -> bytes:
    """The next `size` bytes from the near side."""
    signal.alarm(SILENCE_S)
    piece = sys.stdin.buffer.read(size)
    signal.alarm(0)
    if len(piece) < size:
        raise GoneError
    return piece


def _reply(answer: dict[str, Any]) -> None:
    sys.stdout.buffer.write(b"\n@tledge " + json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()


def _leave(*signal_and_frame: object) -> None:  # noqa: ARG001
    raise GoneError


if __name__ == "__main__":
    main()
