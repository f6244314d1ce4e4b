"""Words that are hidden from a masked language model, which says what they were (Devlin et al. 2019)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]

IGNORED = -100
"""The label of a token that is not asked for: what torch's losses leave out."""
SHARE = 0.15
"""How many of a text's tokens are asked for."""
MASKED, OTHERS = 0.8, 0.1
"""Of the tokens asked for in training, how many are the mask, and how many another token; the rest stay as they are."""


@dataclass(frozen=True, slots=True)
class Masking:
    """What masking knows of a vocabulary.

    `mask` is the token that stands for a hidden one. `goes_on` says of each token whether it goes on with the word of
    the token before it, and `special` whether it is no text, both `(vocabulary,) bool`. `before` and `after` are the
    special tokens around every text.
    """

    mask: int
    goes_on: npt.NDArray[np.bool_]
    special: npt.NDArray[np.bool_]
    before: tuple[int, ...]
    after: tuple[int, ...]

    def framed(self, blocks: npt.NDArray[np.integer]) -> Ids:
        """Blocks of tokens, `(blocks, block)`, with the special tokens around each: `(blocks, length) int64`."""
        sides = [np.tile(np.asarray(each, np.int64), (len(blocks), 1)) for each in (self.before, self.after)]
        return np.concatenate([sides[0], np.asarray(blocks, np.int64), sides[1]], axis=1)

    def n_asked(self, blocks: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """How many tokens are asked for in each of some blocks, `(blocks,) int64`.

        They may be one or two fewer where no word of so few tokens is left.
        """
        return _share((~self.special[blocks]).sum(axis=1))

    def for_training(self, ids: Ids, seed: int) -> tuple[Ids, Ids]:
        """What a model is shown of some texts, and what it is asked for.

        Args:
            ids: `(texts, length) int64`.
            seed: decides which words are asked for, and what stands in their place.

        Returns:
            `(texts, length) int64` both: tokens of which some are hidden, and those that are asked for, else `IGNORED`.
        """
        random = np.random.default_rng(seed)
        asked = np.stack([self._asked(row, random) for row in ids])
        fate = random.random(ids.shape)
        others = random.choice(np.flatnonzero(~self.special), size=ids.shape)
        shown = np.where(asked & (fate < MASKED), self.mask, ids)
        shown = np.where(asked & (fate >= 1 - OTHERS), others, shown)
        return shown, np.where(asked, ids, IGNORED)

    def fixed(self, ids: Ids) -> tuple[Ids, Ids]:
        """The same for scoring: a text alone decides which of its words are asked for, and all of them are the mask."""
        asked = np.stack([self._asked(row, np.random.default_rng(zlib.crc32(row.tobytes()))) for row in ids])
        return np.where(asked, self.mask, ids), np.where(asked, ids, IGNORED)

    def _asked(self, ids: Ids, random: np.random.Generator) -> npt.NDArray[np.bool_]:
        """Whole words, drawn until `SHARE` of the tokens are asked for; a word that would be too much is left out.

        Where every word is, as in scripts that part none, single tokens are drawn.

        Args:
            ids: `(length,) int64`.
            random: draws them.
        """
        special = self.special[ids]
        goes_on = self.goes_on[ids] & ~special & ~np.concatenate([[True], special[:-1]])
        words = np.where(special, -1, np.cumsum(~special & ~goes_on) - 1)
        sizes = np.bincount(words[~special]) if not special.all() else np.zeros(0, np.int64)
        left = int(_share(sizes.sum()))
        if len(sizes) and sizes.min() > left:
            words[~special] = np.arange(sizes.sum())
            sizes = np.ones(int(sizes.sum()), np.int64)
        chosen = []
        for word in random.permutation(len(sizes)):
            if sizes[word] <= left:
                chosen.append(word)
                left -= sizes[word]
            if not left:
                break
        return np.isin(words, chosen)


def _share(n_tokens: npt.NDArray[np.integer] | np.integer) -> npt.NDArray[np.int64]:
    """How many of so many tokens are asked for: at least one, where there is one."""
    return np.asarray(np.minimum(np.maximum(np.round(SHARE * n_tokens), 1), n_tokens), np.int64)
