"""What `bench` and `gate` share about devices: their options, and one machine after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from tledge.artifacts import OnMachine
from tledge.errors import DeviceError, InputError, TledgeError

LOCAL = "local"
"""The device that is this machine, beside others."""
PYTHON, TIMEOUT_S = "python3", 900.0

DeviceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        metavar="URL",
        help="Run on another machine: ssh://USER@HOST[:PORT], or `local` for this one beside others. Repeatable: one "
        "after the other, with the results side by side.",
    ),
]
PythonOption = Annotated[
    list[str] | None,
    typer.Option(
        "--device-python",
        help="The Python there that has the packages of a device install, python3 by default; once for all, or once "
        "for each --device but `local`, in their order.",
    ),
]
TimeoutOption = Annotated[
    float, typer.Option("--device-timeout", min=1, help="Time limit in seconds for all of the work on a device.")
]
SshOption = Annotated[
    list[str] | None, typer.Option("--ssh-option", help="An option for ssh, such as IdentityFile=KEY; repeatable.")
]


@dataclass(frozen=True, slots=True)
class Way:
    """How one machine is reached; `LOCAL` is this one."""

    url: str
    python: str
    timeout_s: float
    ssh_options: tuple[str, ...]

    @property
    def is_local(self) -> bool:
        """Whether it is this machine."""
        return self.url == LOCAL


def ways(
    urls: Sequence[str] | None,
    pythons: Sequence[str] | None,
    timeout_s: float,
    ssh_options: Sequence[str] | None,
) -> tuple[Way, ...]:
    """The machines that are asked for, none for this one alone; nothing is connected.

    Raises:
        InputError: a machine is there twice, or there are more or fewer Pythons than devices.
        RecipeError: an address or an option is wrong.
    """
    from tledge import device

    urls, pythons = urls or (), pythons or (PYTHON,)
    twice = [url for url in dict.fromkeys(urls) if urls.count(url) > 1]
    if twice:
        raise InputError(f"--device: {twice[0]} is there twice; give each machine once")
    far = [url for url in urls if url != LOCAL]
    for url in far:
        device.check(url, ssh_options or ())
    if len(pythons) not in (1, len(far)):
        raise InputError(
            f"--device-python: expected one for all, or one for each of the {len(far)} devices in their order, "
            f"got {len(pythons)}"
        )
    by_url = dict(zip(far, pythons if len(pythons) > 1 else [pythons[0]] * len(far), strict=True))
    return tuple(Way(url, by_url.get(url, PYTHON), timeout_s, tuple(ssh_options or ())) for url in urls)


def on_each(ways: Sequence[Way], run: Callable[[Way], OnMachine]) -> tuple[OnMachine, ...]:
    """What each machine gave, one after the other; one that fails is told at once, and keeps no other back."""
    found = []
    for way in ways:
        try:
            found.append(run(way))
        except TledgeError as error:
            told = " ".join(str(error).split())
            typer.echo(f"error: {told}", err=True)
            found.append(OnMachine(way.url, error=told, exit_code=error.exit_code))
    return tuple(found)


def exit_code(machines: Sequence[OnMachine]) -> int:
    """0 where every machine gave something; that of a machine that could not be reached goes before other errors."""
    codes = [each.exit_code for each in machines if each.exit_code]
    return DeviceError.exit_code if DeviceError.exit_code in codes else next(iter(codes), 0)
