"""Go on with texts: a language model's bundle, opened for generating."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from tledge import bundle
from tledge.bundle import Decoding
from tledge.errors import InputError
from tledge.inputs.text import TextInput
from tledge.runtime.decoder import Decoder
from tledge.runtime.sampling import Sampling, choose
from tledge.runtime.session import open_session
from tledge.runtime.stop import StopStrings

STOP, LENGTH = "stop", "length"


@dataclass(frozen=True, slots=True)
class Generated:
    """What came after one prompt.

    `finish_reason` is `stop` where the model ended the text or a stop string came, and `length` where the tokens that
    were asked for, or the context, were used up. `token_ids` are the generated tokens, without an end-of-text token and
    with those of a stop string, which is not in `text`; `tokens` is their number, `prompt_tokens` that of the prompt's.
    """

    text: str
    tokens: int
    finish_reason: str
    prompt_tokens: int
    token_ids: tuple[int, ...]


class Generator:
    """A language model, opened for generating.

    ==========================================  ======================================================================
    `Generator.load("bundle")`                  open the variant that was chosen when it was bundled
    `generator.generate("Once")`                one `Generated`, greedily: `.text`, `.tokens`, `.finish_reason` ...
    `generator.generate(["Once", "Then"])`      a list of them, in order
    `generator.stream("Once")`                  pieces of the same text as they come, each of whole characters
    ==========================================  ======================================================================

    One generator serves many threads, each with buffers of its own.
    """

    def __init__(self, session: ort.InferenceSession, encoder: TextInput, decoding: Decoding) -> None:
        self.decoding = decoding
        self._encoder = encoder
        self._session = session
        self._idle = [self._new_decoder()]

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        variant: str | None = None,
        provider: str = "cpu",
        threads: int | None = None,
    ) -> Generator:
        """Open a bundle of a language model; the arguments and errors are those of `Predictor.load`.

        Raises:
            InputError: the bundle is not a language model's.
        """
        folder = Path(path)
        manifest = bundle.load(folder)
        if manifest.generation is None:
            raise InputError(f"{folder} does not generate text: its task is {manifest.task}; open it with Predictor")
        opened = bundle.find_variant(manifest, variant, folder)
        session = open_session(bundle.graph_path(folder, opened), provider=provider, threads=threads)
        return cls(session, TextInput.load(folder), manifest.generation)

    def generate(
        self,
        prompts: str | Iterable[str],
        *,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
        batch_size: int = 1,
    ) -> Any:
        """A `Generated` for one prompt, or a list of them for several.

        Args:
            prompts: One text or several. An empty one begins with the model's token for the beginning of a text.
            max_new_tokens: Tokens to generate at most. No more are than the context has room for after the prompt.
            temperature: See `Sampling`, as for `top_k` and `top_p`; 0 takes the likeliest token at each step.
            top_k: The k likeliest tokens are drawn from; 0 for all.
            top_p: The likeliest tokens that together have this probability are drawn from; 1 for all.
            stop: One or several texts, before the first of which the text ends.
            seed: Makes drawing repeatable. Each prompt has draws of its own, the same for the same seed.
            batch_size: Prompts that go through the graph together. With 1 each has the answer that it has alone; a
                dynamically quantized graph takes its scales from the whole batch, so that prompts then depend on their
                neighbours. Prompts that have no room for their tokens when padded to one length go one by one.

        Raises:
            InputError: an option is out of its range, or a prompt is no text, too long for the context, or empty where
                the model has no token to begin with; the message names it.
        """
        if batch_size < 1:
            raise InputError(f"batch_size must be 1 or more, got {batch_size}")
        sampling = Sampling(temperature, top_k, top_p)
        listed = [prompts] if isinstance(prompts, str) else list(prompts)
        rows = [
            self._row(prompt, i if len(listed) > 1 else None, max_new_tokens, sampling, stop, seed)
            for i, prompt in enumerate(listed)
        ]
        for start in range(0, len(rows), batch_size):
            for part in self._fitting(rows[start : start + batch_size]):
                for _ in self._steps(part):
                    pass
        results = [row.result() for row in rows]
        return results[0] if isinstance(prompts, str) else results

    def stream(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
    ) -> Iterator[str]:
        """The text that `generate` gives for one prompt, in pieces as they come.

        A piece is never empty and never a part of a character, and what may be the beginning of a stop string waits
        until it is none. Arguments and errors are those of `generate`.
        """
        row = self._row(prompt, None, max_new_tokens, Sampling(temperature, top_k, top_p), stop, seed)
        return (piece for (piece,) in self._steps([row]) if piece)

    def _row(
        self,
        prompt: str,
        place: int | None,
        max_new_tokens: int,
        sampling: Sampling,
        stop: str | Sequence[str],
        seed: int | None,
    ) -> _Row:
        if max_new_tokens < 1:
            raise InputError(f"max_new_tokens must be 1 or more, got {max_new_tokens}")
        if seed is not None and seed < 0:
            raise InputError(f"seed must be 0 or more, got {seed}")
        try:
            ids = self.prompt_ids(prompt)
        except InputError as error:
            raise error if place is None else InputError(f"prompt {place}: {error}") from error
        return _Row(
            ids,
            limit=min(max_new_tokens, self.decoding.context_length - len(ids)),
            encoder=self._encoder,
            decoding=self.decoding,
            sampling=sampling,
            stop=StopStrings([stop] if isinstance(stop, str) else stop),
            chance=np.random.default_rng(seed),
        )

    def prompt_ids(self, prompt: str) -> list[int]:
        """The tokens that a prompt is read as.

        Raises:
            InputError: as for `generate`.
        """
        ids = self._encoder.encode_whole(prompt)
        if not ids:
            first = [self.decoding.bos_token_id, *self.decoding.eos_token_ids]
            ids = [token for token in first if token is not None][:1]
        if not ids:
            raise InputError("the prompt is empty, and this model has no token to begin a text with; give it a text")
        most = self.decoding.context_length - 1
        if len(ids) > most:
            raise InputError(
                f"the prompt has {len(ids)} tokens; this model reads {self.decoding.context_length}, new ones "
                f"included: expected at most {most}; shorten it"
            )
        return ids

    def _fitting(self, rows: list[_Row]) -> Iterator[list[_Row]]:
        """The rows together where the context has room for the longest prompt and the most new tokens, else alone."""
        longest = max(len(row.prompt) for row in rows) + max(row.limit for row in rows)
        if longest <= self.decoding.context_length:
            yield rows
        else:
            yield from ([row] for row in rows)

    def _steps(self, rows: list[_Row]) -> Iterator[list[str]]:
        """After each token, the text that each row got by it."""
        prompts = self._encoder.padded([row.prompt for row in rows])
        with self._decoder() as decoder:
            room = max(row.limit for row in rows)
            logits = decoder.prefill(prompts["input_ids"], prompts["attention_mask"], room=room)
            while True:
                yield [row.take(each) for row, each in zip(rows, logits, strict=True)]
                if all(row.finish_reason for row in rows):
                    return
                logits = decoder.step(np.array([row.last for row in rows], np.int64))

    @contextlib.contextmanager
    def _decoder(self) -> Iterator[Decoder]:
        """A decoder that nobody else uses; its buffers are kept for whoever comes next."""
        try:
            decoder = self._idle.pop()
        except IndexError:
            decoder = self._new_decoder()
        try:
            yield decoder
        finally:
            self._idle.append(decoder)

    def _new_decoder(self) -> Decoder:
        return Decoder(self._session, context_length=self.decoding.context_length)


class _Row:
    """One text on its way: its prompt, what was generated, and whether it has ended."""

    def __init__(
        self,
        prompt: list[int],
        *,
        limit: int,
        encoder: TextInput,
        decoding: Decoding,
        sampling: Sampling,
        stop: StopStrings,
        chance: np.random.Generator,
    ) -> None:
        self.prompt = prompt
        self.limit = limit
        self.last = decoding.pad_token_id
        self.finish_reason = ""
        self._decoding = decoding
        self._sampling = sampling
        self._chance = chance
        self._tokens: list[int] = []
        self._texts: list[str] = []
        self._pieces = encoder.pieces()
        self._stop = stop

    def take(self, logits: npt.NDArray[Any]) -> str:
        """Choose the next token and give the text that is certain now; nothing once the text has ended."""
        if self.finish_reason:
            return ""
        token = choose(logits, self._sampling, self._chance)
        if token in self._decoding.eos_token_ids:
            return self._end(STOP, self._stop.push(self._pieces.rest()))
        self.last = token
        self._tokens.append(token)
        text = self._stop.push(self._pieces.push(token))
        if self._stop.found:
            return self._end(STOP, text)
        if len(self._tokens) == self.limit:
            return self._end(LENGTH, text + self._stop.push(self._pieces.rest()))
        self._texts.append(text)
        return text

    def _end(self, reason: str, text: str) -> str:
        self.finish_reason = STOP if self._stop.found else reason
        self.last = self._decoding.pad_token_id
        text += self._stop.rest()
        self._texts.append(text)
        return text

    def result(self) -> Generated:
        """What was generated."""
        return Generated(
            text="".join(self._texts),
            tokens=len(self._tokens),
            finish_reason=self.finish_reason,
            prompt_tokens=len(self.prompt),
            token_ids=tuple(self._tokens),
        )
