"""Where a text is to end: at the first of some strings, of which nothing may be told before."""

from __future__ import annotations

from collections.abc import Sequence

from tledge.errors import InputError


class StopStrings:
    """Lets text through, piece by piece, up to the first stop string; `found` tells whether there was one.

    What may be the beginning of a stop string is held back until it is none.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        if not all(isinstance(string, str) and string for string in strings):
            raise InputError(f"stop: expected texts that are not empty, got {list(strings)}")
        self.found = False
        self._strings = tuple(strings)
        self._held = ""

    def push(self, text: str) -> str:
        """What of the text so far may be told and was not."""
        text = self._held + text
        starts = [start for string in self._strings if (start := text.find(string)) >= 0]
        if starts:
            self.found, self._held = True, ""
            return text[: min(starts)]
        certain = len(text) - max((_begun(text, string) for string in self._strings), default=0)
        self._held = text[certain:]
        return text[:certain]

    def rest(self) -> str:
        """What was held back, now that nothing follows."""
        held, self._held = self._held, ""
        return held


def _begun(text: str, string: str) -> int:
    """How many characters at the end of a text are the beginning of a string."""
    longest = min(len(text), len(string) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(string[:n])), 0)
