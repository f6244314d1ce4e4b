"""ssh: the OpenSSH client, with the user's own configuration, agent and known hosts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tledge.errors import RecipeError

CONNECT_S = 10
ALIVE_S = 5
LOST_AFTER = 3
FAILED = 255  # what ssh exits with when the connection, not the far command, failed

FORCED = {
    "BatchMode": "yes",  # a question for a password would wait for ever
    "StrictHostKeyChecking": "yes",
    "ConnectTimeout": str(CONNECT_S),
    "ServerAliveInterval": str(ALIVE_S),
    "ServerAliveCountMax": str(LOST_AFTER),
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "LogLevel": "ERROR",  # no banner among the reasons
}
"""Stronger than the user's configuration file, weaker than the options of the call."""

URL = re.compile(
    r"ssh://(?:(?P<user>[\w.+-]+\$?)@)?(?:\[(?P<six>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<host>[\w.-]+))(?::(?P<port>\d+))?/?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Ssh:
    """A `Transport` over one run of `ssh`; see `connect`."""

    host: str
    user: str | None = None
    port: int | None = None
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """`user@host:port`, as far as the URL said."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self._user_at}{host}{'' if self.port is None else f':{self.port}'}"

    @property
    def _user_at(self) -> str:
        return f"{self.user}@" if self.user else ""

    def command(self, words: str) -> list[str]:
        """The `ssh` command that runs `words` in the user's shell there."""
        settings = [*self.options, *(f"{key}={value}" for key, value in FORCED.items())]
        return [
            "ssh",
            "-T",
            *(word for setting in settings for word in ("-o", setting)),
            *([] if self.port is None else ["-p", str(self.port)]),
            *([] if self.user is None else ["-l", self.user]),
            "--",
            self.host,
            words,
        ]

    def explain(self, code: int, said: str) -> str | None:
        """The reason in `ssh`'s own words, and what to do about the usual ones."""
        if code != FAILED:
            return None
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        last = lines[-1].rstrip(".") if lines else "the connection was closed"
        return next((cure for sign, cure in self._cures(last).items() if sign in said), last)

    def _cures(self, last: str) -> dict[str, str]:
        """Messages by the words of `ssh` that they stand for, the most telling first."""
        port = "" if self.port is None else f"-p {self.port} "
        target = f"{self._user_at}{self.host}"
        known = self.host if self.port is None else f"[{self.host}]:{self.port}"
        return {
            "HOST IDENTIFICATION HAS CHANGED": (
                "it shows another host key than the one known here; if the device was set up anew, run: "
                f"ssh-keygen -R '{known}', then connect once by hand: ssh {port}{target}"
            ),
            "host key is known for": (
                f"its host key is not known here; connect once by hand, ssh {port}{target}, and compare the "
                f"fingerprint, or, in a network you trust, run: ssh-keyscan {port}{self.host} >> ~/.ssh/known_hosts"
            ),
            "Host key verification failed": f"its host key could not be verified; try: ssh {port}{target}",
            "Permission denied": (
                f"it takes none of the keys offered ({last}); put yours there with: ssh-copy-id {port}{target}, "
                "or name another with --ssh-option IdentityFile=PATH"
            ),
            "Connection refused": f"no SSH server answers ({last}); start one there, or give its port: ssh://host:port",
            "Could not resolve hostname": f"no such host ({last}); check the name, or give its address",
            "timed out": f"it does not answer ({last}); is it on, and in reach from here?",
            "No route to host": f"it cannot be reached ({last}); is it on, and in reach from here?",
        }


def connect(url: str, options: Sequence[str] = ()) -> Ssh:
    """The way to `ssh://user@host:port`, where the host may be one of `~/.ssh/config`, or `[IPv6]`.

    Args:
        url: user and port may be left out.
        options: settings of `ssh_config`, such as `IdentityFile=/home/me/.ssh/device`; they win over everything.

    Raises:
        RecipeError: the URL is of another form, or an option is not `KEY=VALUE`.
    """
    matched = URL.fullmatch(url)
    if matched is None:
        raise RecipeError(f"--device: {url!r} is no address of a device{_why(url)}; expected ssh://user@host:port")
    user, host = matched["user"], matched["six"] or matched["host"]
    port = None if matched["port"] is None else int(matched["port"])
    if host.startswith("-") or (user or "").startswith("-"):
        raise RecipeError(f"--device: {url!r}: a host or user cannot start with '-', which would be an option of ssh")
    if port is not None and not 0 < port < 65536:
        raise RecipeError(f"--device: {url!r}: the port is {port}; expected one from 1 to 65535")
    for option in options:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*=[^\n\0]+", option):
            raise RecipeError(
                f"--ssh-option: {option!r} is no setting of ssh; expected KEY=VALUE, such as IdentityFile=PATH"
            )
    return Ssh(host, user, port, tuple(options))


def _why(url: str) -> str:
    """What the usual mistakes are, or nothing."""
    rest = url.removeprefix("ssh://")
    before, at, after = rest.rpartition("@")
    if at and ":" in before:
        return ": it holds a password, which ssh does not take; use a key"
    if "/" in after.rstrip("/"):
        return ": it holds a path, and where files go is not yours to choose here"
    if after.count(":") > 1:
        return ": an IPv6 address stands in brackets, such as ssh://user@[::1]:22"
    return ""
