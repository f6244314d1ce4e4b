"""Other machines: a bundle is taken there, benched or judged by the device install, and the record brought back.

The near side starts `far.py` on the device, through one of `transports`, and talks to it over its standard streams:

1. near sends the plan: the files by hash, the packages that are needed, the command;
2. far answers what it is, what it lacks, and which files it does not have yet;
3. near sends those files;
4. far runs the command, passes on what it says, cleans up, and answers with the exit code and the record.

Far ends the bench and cleans up whenever near falls silent. `docs/device.md` is the page for users.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tledge.device import contents, packages, transport
from tledge.device.contents import Part
from tledge.device.conversation import Conversation
from tledge.errors import DeviceError, TledgeError
from tledge.progress import Progress, silent

ERROR = "error: "
"""What the command line writes before the reason for which it failed."""

BLOCK = 4096
"""Bytes that file systems give out at once; a file takes a whole number of them."""


GATE_CODES = (0, 11, 12, 13)
"""Exit codes with which a gate has a verdict."""


def bench(
    url: str,
    bundle: Path,
    arguments: Sequence[str | Path] = (),
    *,
    python: str = "python3",
    timeout_s: float = 900.0,
    options: Sequence[str] = (),
    progress: Progress = silent,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """The `BenchResult` of `tledge bench BUNDLE --json` on another machine, as plain JSON.

    Args:
        url: the device, `ssh://user@host:port`.
        bundle: a bundle folder, or an ONNX graph, with which its external data go where they are called `GRAPH.data` or
            `GRAPH_data`.
        arguments: more of the command line; a `Path` among them is sent too and named as it is called there.
        python: the Python there, at least 3.11: a name on the path, or a path that may start with `~/`.
        timeout_s: seconds for all of it, from connecting on.
        options: the transport's own, for `ssh` such as `IdentityFile=/home/me/.ssh/device`.
        progress: shows how far the sending is.
        say: gets one line at a time about the work, those of the far bench among them.

    Raises:
        RecipeError: the URL, `python` or an option is wrong.
        DeviceError: the device cannot be reached, lacks something, or broke off; nothing runs there any more.
        TledgeError: the bench failed there for a reason that the user can mend, with the class it had there.
    """
    words = ["bench", bundle, "--json", *arguments]
    return _run(url, words, "benching", (0,), python, timeout_s, options, progress, say)


def gate(
    url: str,
    bundle: Path | Part,
    arguments: Sequence[str | Path | Part] = (),
    *,
    python: str = "python3",
    timeout_s: float = 900.0,
    options: Sequence[str] = (),
    progress: Progress = silent,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """The `Verdict` of `tledge gate BUNDLE --json -` on another machine, as plain JSON.

    The arguments and errors are those of `bench`; of a `Part`, such as a run folder's bundle and answers, or a file of
    rows with its images, only what it says is sent.
    """
    words = ["gate", bundle, "--json", "-", *arguments]
    return _run(url, words, "judging", GATE_CODES, python, timeout_s, options, progress, say)


def check(url: str, options: Sequence[str] = ()) -> None:
    """Nothing, for an address that may be one of a device; nothing is connected.

    Raises:
        RecipeError: the URL or an option is wrong.
    """
    transport.of(url, options)


def _run(
    url: str,
    words: Sequence[str | Path | Part],
    doing: str,
    good: Sequence[int],
    python: str,
    timeout_s: float,
    options: Sequence[str],
    progress: Progress,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """What `tledge WORDS` prints as JSON there when it ends with one of the `good` exit codes."""
    reached = transport.of(url, options)
    sent = contents.gather([word for word in words if not isinstance(word, str)])
    plan = {
        "files": [[name, file.sha256, file.size] for name, file in sent.files.items()],
        "modules": [package.module for package in packages.NEEDED],
        "command": ["-m", "tledge", *_command(words, sent)],
    }
    with Conversation(reached, python, timeout_s) as far:
        far.send_line(plan)
        found = _answer(far, say)
        _check_packages(found, reached.name, python)
        _send(far, found, sent, reached.name, progress, say)
        say(f"{doing} on {reached.name}: {found['system']}, Python {found['python']}")
        done = _answer(far, say)
    near_names = {f"{found['run']}/{name}": str(path) for name, path in sent.near.items()}
    return _record(done, reached.name, near_names, str(words[0]), good)


def _command(words: Sequence[str | Path | Part], sent: contents.Contents) -> list[str | dict[str, str]]:
    """The far command line; what was sent is written as `{"sent": NAME}`."""
    return [word if isinstance(word, str) else {"sent": sent.words[word]} for word in words]


def _answer(far: Conversation, say: Callable[[str], None]) -> dict[str, Any]:
    """The next answer, after passing on what the far side says.

    Raises:
        DeviceError: the answer is an error, or there is none.
    """
    while True:
        answer = far.receive()
        if "say" in answer:
            if not answer["say"].startswith(ERROR):  # it comes with the exit code, too
                say(answer["say"])
        elif "error" in answer:
            raise DeviceError(f"{far.name}: {answer['error']}")
        else:
            return answer


def _check_packages(found: Mapping[str, Any], device: str, python: str) -> None:
    wrong = packages.wrong(found["versions"])
    if wrong:
        lacks = ", ".join(f"{package.name} ({state})" for package, state in wrong)
        cure = packages.cure([package for package, _ in wrong], python, managed=found["managed"])
        raise DeviceError(f"{device}: Python {found['python']} there lacks {lacks}; {cure}")


def _send(
    far: Conversation,
    found: Mapping[str, Any],
    sent: contents.Contents,
    device: str,
    progress: Progress,
    say: Callable[[str], None],
) -> None:
    """Send the files that are not there yet.

    Raises:
        DeviceError: they do not fit, or a file changed meanwhile.
    """
    by_hash = {file.sha256: file for file in sent.files.values()}
    needed = [by_hash[sha256] for sha256 in found["needed"]]
    total = sum(file.size for file in needed)
    taken = sum(-(-file.size // BLOCK) * BLOCK for file in needed)
    if taken > found["free_bytes"]:
        raise DeviceError(
            f"{device}: no room for {taken:,} bytes in {found['store']}, where {found['free_bytes']:,} are free; "
            "free some, or set XDG_CACHE_HOME there to a larger disk"
        )
    say(f"sending {len(needed)} of {len(by_hash)} files to {device}, {total / 1e6:.1f} MB")
    far.send_line("go")
    with progress(f"Sending to {device} (kB)", -(-total // 1000)) as advance:
        done = 0
        for count in far.send_files([(file.path, file.size) for file in needed]):
            advance((done + count) // 1000 - done // 1000)
            done += count


def _record(
    done: Mapping[str, Any], device: str, near_names: Mapping[str, str], verb: str, good: Sequence[int]
) -> dict[str, Any]:
    """The record that the far bench or gate printed.

    Raises:
        TledgeError: it failed, with the class that its exit code stands for; paths there are named as those here.
        DeviceError: it was killed, has a defect, or printed no JSON object.
    """
    code, said, printed = done["code"], done["stderr"], done["stdout"]
    for there, here in near_names.items():
        said = said.replace(there, here)
        printed = printed.replace(json.dumps(there)[1:-1], json.dumps(here)[1:-1])
    if code not in good:
        raise _failure(code, [line for line in said.splitlines() if line.strip()], device, verb)
    try:
        record = json.loads(printed)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise DeviceError(f"on {device}: the {verb} printed no JSON object but {printed[:60]!r}")
    return record


def _failure(code: int, lines: Sequence[str], device: str, verb: str) -> TledgeError:
    if code < 0:
        hint = "; was its memory used up?" if code == -9 else ""
        return DeviceError(f"on {device}: the {verb} was ended by signal {-code}{hint}")
    kinds = {kind.exit_code: kind for kind in TledgeError.__subclasses__()}
    errors = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    if code in kinds and errors:
        return kinds[code](f"on {device}: {'; '.join(errors)}")
    last = errors[-1] if errors else lines[-1] if lines else "it said nothing"
    return DeviceError(f"on {device}: the {verb} failed with exit code {code}: {last}")
