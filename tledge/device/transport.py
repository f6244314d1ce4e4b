"""The seam to other machines: how a command is started there; each kind is one file in `transports`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tledge import plugins
from tledge.errors import RecipeError


class Transport(Protocol):
    """A way to one device. Its module has `connect(url, options) -> Transport`; the module's name is the URL's scheme.

    Nothing is connected before the command that `command` gives is started.
    """

    @property
    def name(self) -> str:
        """How messages call the device, such as `pi@kitchen:2222`."""

    def command(self, words: str) -> list[str]:
        """The command here that runs `words`, written for a POSIX shell, on the device.

        Its three standard streams are those of the far command, byte for byte, with its exit code; when it ends or
        its standard input is closed, so is that of the far command.
        """

    def explain(self, code: int, said: str) -> str | None:
        """What kept the connection from being made or cut it, and what to do; `None` when it was not the connection.

        Args:
            code: the exit code of `command`.
            said: what it wrote to its error stream.
        """


def of(url: str, options: Sequence[str]) -> Transport:
    """The way to a device.

    Raises:
        RecipeError: the scheme is unknown, or the URL or an option is not what the scheme takes.
    """
    scheme, colon, _ = url.partition(":")
    package = f"{__package__}.transports"
    if not colon or scheme not in plugins.names(package):
        known = ", ".join(f"{name}:" for name in plugins.names(package))
        raise RecipeError(
            f"--device: {url!r} does not start with a known way to a device ({known}); "
            "expected something like ssh://user@host"
        )
    connected: Transport = plugins.load(package, scheme).connect(url, options)
    return connected
