"""Token ids to text as they come: no piece ends within a character."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_INCOMPLETE = "\ufffd"
"""What stands for bytes that are no character, or not yet."""


class TextPieces:
    """Turns tokens into text one after another.

    ::

        pieces = TextPieces(inputs.decode)
        text = "".join(pieces.push(token) for token in tokens) + pieces.rest()

    A token may hold a part of a character only; its text waits for the tokens that complete it. All pieces together
    are the text of all tokens.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        # Only the tokens since the piece before the last one are decoded again. They are needed, since some
        # tokenizers write the same token with a space in front or not, depending on whether it comes first.
        self._start = 0
        self._told = 0

    def push(self, token: int) -> str:
        """The text that is certain with one more token; empty while a character is incomplete."""
        self._ids.append(token)
        piece = self._untold()
        if not piece or piece.endswith(_INCOMPLETE):
            return ""
        self._start, self._told = self._told, len(self._ids)
        return piece

    def rest(self) -> str:
        """What no token completes any more; bytes that are no character become U+FFFD."""
        piece = self._untold()
        self._start = self._told = len(self._ids)
        return piece

    def _untold(self) -> str:
        before = self._decode(self._ids[self._start : self._told])
        return self._decode(self._ids[self._start :])[len(before) :]
