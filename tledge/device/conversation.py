"""Both directions of the talk with `far.py` on a device, and what it means when the talk ends too soon."""

from __future__ import annotations

import contextlib
import json
import queue
import shlex
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Self

from tledge.device.transport import Transport
from tledge.errors import DeviceError, RecipeError

MARK = b"@tledge "
HEARTBEAT_S = 10.0
PATIENCE_S = 10.0
"""How long the far side may take to clean up before the connection is cut."""
PIECE = 1 << 16
NO_PYTHON = (126, 127)  # a shell's exit codes for a command that is not there, or is no program

FAR = Path(__file__).with_name("far.py")
BOOTSTRAP = (
    "import sys;v=sys.version_info;"
    'v[:2]>=(3,11) or sys.exit(sys.stdout.write(\'@tledge {"old": "%d.%d"}\\n\'%tuple(v[:2])) and None);'
    "exec(sys.stdin.buffer.read(%d))"
)
"""Understood by every Python from 2.7 on."""


class Conversation:
    """A Python on a device that runs `far.py`, as a context: at its end nothing runs there any more.

    with Conversation(transport, "python3", 900) as far:
        far.send_line(plan)
        answer = far.receive()
    """

    def __init__(self, transport: Transport, python: str, timeout_s: float) -> None:
        self.name = transport.name
        self._transport, self._python, self._timeout_s = transport, python, timeout_s
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._heard = self._late = False
        source = FAR.read_bytes()
        command = transport.command(
            f"exec {_quoted(python)} -c {shlex.quote(BOOTSTRAP.replace('(%d)', f'({len(source)})'))}"
        )
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            # A session of its own: Ctrl-C reaches this process alone, which then lets the far side clean up.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, start_new_session=True
            )
        except FileNotFoundError:
            self._said.close()
            raise DeviceError(f"there is no {command[0]!r} on this machine; install the OpenSSH client") from None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to: IO[bytes] = self._process.stdin
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        self._alarm = threading.Timer(timeout_s, self._expire)
        self._alarm.daemon = True
        self._alarm.start()
        self._first = source

    def __enter__(self) -> Self:
        try:
            self._write(self._first)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def send_line(self, value: Any) -> None:
        """Send one JSON value.

        Raises:
            DeviceError: the far side is gone.
        """
        self._write(json.dumps(value).encode() + b"\n")

    def send_files(self, files: Sequence[tuple[Path, int]]) -> Iterator[int]:
        """Send the bytes of files, each with the size that was announced; yields the bytes sent, piece by piece.

        Raises:
            DeviceError: the far side is gone or its disk full, or a file became shorter.
        """
        for path, size in files:
            left = size
            with path.open("rb") as file:
                while left:
                    piece = file.read(min(PIECE, left))
                    if not piece:
                        raise DeviceError(f"{path} became shorter while it was sent to {self.name}; run it again")
                    self._write(piece)
                    left -= len(piece)
                    yield len(piece)

    def receive(self) -> dict[str, Any]:
        """The next answer; shows the far side every ten seconds that somebody waits for it.

        Raises:
            DeviceError: the far side ended without one.
        """
        while True:
            try:
                answer = self._answers.get(timeout=HEARTBEAT_S)
            except queue.Empty:
                with contextlib.suppress(OSError):
                    self._to.write(b"\n")
                    self._to.flush()
                continue
            if answer is None:
                raise self._ended()
            if "old" in answer:
                raise DeviceError(
                    f"{self.name}: {self._python} there is Python {answer['old']}, and 3.11 or newer is needed; "
                    "install one, or name another with --device-python"
                )
            self._heard = True
            return answer

    def close(self) -> None:
        """Have the far side clean up and end; cuts the connection when that takes longer than ten seconds."""
        with contextlib.suppress(OSError):
            self._to.close()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._alarm.cancel()
        self._reader.join(PATIENCE_S)
        self._said.close()

    def _write(self, data: bytes) -> None:
        try:
            self._to.write(data)
            self._to.flush()
        except OSError:  # it ended; why is in its last answer or its exit code
            while True:
                answer = self.receive()
                if "error" in answer:
                    raise DeviceError(f"{self.name}: {answer['error']}") from None

    def _read(self, stream: IO[bytes]) -> None:
        """Put each answer into the queue, and `None` at the end; lines of a shell's start-up files are passed over."""
        try:
            with stream:
                for line in stream:
                    if line.startswith(MARK):
                        self._answers.put(json.loads(line.removeprefix(MARK)))
        finally:
            self._answers.put(None)

    def _expire(self) -> None:
        self._late = True
        self._process.terminate()

    def _ended(self) -> DeviceError:
        """Why there is no answer any more."""
        code = self._process.wait()
        self._said.seek(0)
        said = self._said.read().decode(errors="replace")
        if self._late:
            return DeviceError(
                f"{self.name}: not finished after {self._timeout_s:g} s; allow more with --device-timeout"
            )
        reason = self._transport.explain(code, said)
        if self._heard and reason is not None:
            return DeviceError(
                f"{self.name}: the connection was cut ({reason}); what ran there ends by itself, run it again"
            )
        if reason is not None:
            return DeviceError(f"{self.name}: {reason}")
        if code in NO_PYTHON:
            return DeviceError(
                f"{self.name}: there is no {self._python}; install Python 3.11 or newer there, "
                "or name one with --device-python"
            )
        last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it said nothing")
        return DeviceError(f"{self.name}: {self._python} there ended with exit code {code}: {last}")


def _quoted(python: str) -> str:
    """The far Python as one word of a shell's command line; a `~/` before it stays the home folder there.

    Raises:
        RecipeError: it is empty or an option.
    """
    if not python or python.startswith("-") or "\n" in python:
        raise RecipeError(f"--device-python: {python!r} is no program; expected a name or a path, such as python3")
    home, rest = ("~/", python[2:]) if python.startswith("~/") else ("", python)
    return home + shlex.quote(rest)
