"""A decoder's graph, run token after token: the keys and values of what was read stay in two sets of buffers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from tledge import past
from tledge.artifacts import TensorSpec
from tledge.errors import BundleError, InputError
from tledge.evaluate import Run
from tledge.runtime.session import CPU, DEVICES, open_session, run_failed

Array = npt.NDArray[Any]

_DTYPES = {"float": "float32", "double": "float64"}
"""onnxruntime's names of element types where they are not numpy's."""


class Decoder:
    """One text, or one batch of texts, on its way through a decoder's graph.

    ::

        decoder = Decoder.open(Path("bundle/onnx/model.onnx"), context_length=1024)
        logits = decoder.prefill(input_ids, attention_mask)     # (batch, vocabulary): what may come next
        logits = decoder.step(logits.argmax(axis=1))            # and next, as often as there is room

    On the CPU the keys and values are written into two sets of buffers in turn, one set the past of a step and the
    other its result; both are kept for the next text. With another provider they stay where it leaves them, and
    onnxruntime allocates them anew at each step. The numbers are the same.

    A decoder holds one text or batch at a time, and only one thread may use it: open several on one session with
    `Decoder(session, context_length=...)` to have more.
    """

    def __init__(self, session: ort.InferenceSession, *, context_length: int, in_place: bool | None = None) -> None:
        """A decoder on an open session.

        Args:
            session: A session of a decoder's graph.
            context_length: Tokens that the model can read, prompt and new ones together.
            in_place: Write keys and values into buffers of our own; by default where the CPU runs the graph.

        Raises:
            BundleError: the graph is no decoder.
        """
        self.session = session
        self.context_length = context_length
        self.inputs = tensor_specs(session.get_inputs())
        self.vocab_size = _vocab_size(session, self.inputs)
        provider = session.get_providers()[0]
        self._past = past.past_specs(self.inputs)
        self._in_place = provider == CPU if in_place is None else in_place
        self._device = DEVICES.get(provider, "cpu")
        self._buffers: tuple[list[Array], list[Array]] = ([], [])
        self._logits = np.empty(0, np.float32)
        self._on_device: list[Any] = []
        self._mask = np.zeros((0, 0), np.int64)
        self._room = 0

    @classmethod
    def open(cls, path: Path, *, context_length: int, provider: str = "cpu", threads: int | None = None) -> Decoder:
        """A decoder on a session of its own; see `open_session` for the arguments and errors."""
        return cls(open_session(path, provider=provider, threads=threads), context_length=context_length)

    @property
    def length(self) -> int:
        """Tokens of each row that were read so far, padding included."""
        return int(self._mask.shape[1])

    def prefill(self, input_ids: Array, attention_mask: Array | None = None, *, room: int = 0) -> Array:
        """The logits of the token after each prompt, `(batch, vocabulary) float32`; what was read before is forgotten.

        A prompt of more than 64 tokens is read in several passes.

        Args:
            input_ids: `(batch, sequence) int64`, padded on the left.
            attention_mask: `(batch, sequence) int64`, 0 for padding; without it there is none.
            room: Further tokens to set buffers aside for at once. They grow where it was too little.

        Raises:
            InputError: there is no token, or there are more than the context takes.
        """
        batch, sequence = input_ids.shape
        if not batch or not sequence:
            raise InputError(f"a prompt needs at least one token, got {batch} prompts of {sequence} tokens")
        mask = np.ones_like(input_ids) if attention_mask is None else attention_mask
        self._mask, self._on_device = np.zeros((batch, 0), np.int64), []
        self._room = min(sequence + room, self.context_length)
        for start in range(0, sequence, past.READ_AT_ONCE):
            part = slice(start, start + past.READ_AT_ONCE)
            logits = self._read(input_ids[:, part], mask[:, part])
        return logits

    def step(self, tokens: Array) -> Array:
        """The logits after one more token in each row, `(batch, vocabulary) float32`.

        Args:
            tokens: `(batch,) int64`; rows that have ended take any token, such as the padding token.

        Raises:
            InputError: the context is full.
        """
        return self._read(tokens[:, None], np.ones((len(tokens), 1), np.int64))

    def _read(self, input_ids: Array, mask: Array) -> Array:
        before = self.length
        if before + input_ids.shape[1] > self.context_length:
            raise InputError(f"the context of {self.context_length} tokens is full; start again with a shorter prompt")
        self._mask = np.concatenate([self._mask, mask], axis=1, dtype=np.int64)
        binding = self.session.io_binding()
        for name, array in past.feeds(self.inputs, input_ids, self._mask, {}).items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array, np.int64))
        read = self._read_into_buffers if self._in_place else self._read_on_device
        logits = read(binding, before, input_ids.shape[1])
        return logits[:, -1].astype(np.float32)  # a copy: the buffer is written to again

    def _read_into_buffers(self, binding: Any, before: int, new: int) -> Array:
        """Past and present are views of our own buffers, `before` and `before + new` tokens long."""
        batch = len(self._mask)
        source, target = self._buffers
        _make_room(target, [(spec, past.past_shape(spec, batch, max(self._room, before + new))) for spec in self._past])
        for i, spec in enumerate(self._past):
            dtype, address = target[i].dtype.type, target[i].ctypes.data
            read_from = source[i].ctypes.data if before else address  # an empty past has an address too
            binding.bind_input(spec.name, "cpu", 0, dtype, past.past_shape(spec, batch, before), read_from)
            name, shape = past.present_name(spec.name), past.past_shape(spec, batch, before + new)
            binding.bind_output(name, "cpu", 0, dtype, shape, address)
        if self._logits.size < batch * new * self.vocab_size:
            self._logits = np.empty(batch * new * self.vocab_size, np.float32)
        logits = self._logits[: batch * new * self.vocab_size].reshape(batch, new, self.vocab_size)
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        _run(self.session, binding)
        self._buffers = (target, source)
        return logits

    def _read_on_device(self, binding: Any, before: int, _new: int) -> Array:
        """Past and present are tensors of onnxruntime's own, where the provider leaves them."""
        empty = past.empty(self.inputs, len(self._mask))
        for i, spec in enumerate(self._past):
            if before:
                binding.bind_ortvalue_input(spec.name, self._on_device[i])
            else:
                binding.bind_cpu_input(spec.name, empty[spec.name])
            binding.bind_output(past.present_name(spec.name), self._device)
        binding.bind_output("logits", "cpu")
        _run(self.session, binding)
        *self._on_device, logits = binding.get_outputs()
        array: Array = logits.numpy()
        return array


def logits_run(session: ort.InferenceSession) -> Run:
    """One pass over whole texts: `input_ids`, `(batch, sequence) int64`, to `logits`, `(batch, sequence, vocabulary)`.

    Nothing is padded, and there is no past; other tensors are not looked at.
    """
    inputs = tensor_specs(session.get_inputs())

    def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
        input_ids = feeds["input_ids"]
        tensors = past.feeds(inputs, input_ids, np.ones_like(input_ids))
        try:
            return {"logits": session.run(["logits"], tensors)[0]}
        except Exception as error:  # onnxruntime's exceptions share no other base
            raise run_failed(error) from error

    return run


def prefill_feeds(
    inputs: Sequence[TensorSpec], batch: int, sequence: int, *, vocab_size: int, seed: int = 0
) -> dict[str, Array]:
    """Random tokens with an empty past: what reading a prompt takes, for latency."""
    tokens = np.random.default_rng(seed).integers(vocab_size, size=(batch, sequence))
    return past.feeds(inputs, tokens, np.ones_like(tokens))


def step_feeds(
    inputs: Sequence[TensorSpec], batch: int, length: int, *, vocab_size: int, seed: int = 0
) -> dict[str, Array]:
    """One random token in each row after a past of random numbers: what one step takes, for latency.

    Args:
        inputs: The graph's inputs.
        batch: Rows.
        length: Tokens of the past.
        vocab_size: Tokens are drawn from 0 to this.
        seed: Of both draws.
    """
    generator = np.random.default_rng(seed)
    tokens = generator.integers(vocab_size, size=(batch, 1))
    before = {
        spec.name: generator.standard_normal(past.past_shape(spec, batch, length), np.float32).astype(spec.dtype)
        for spec in past.past_specs(inputs)
    }
    return past.feeds(inputs, tokens, np.ones((batch, length + 1), np.int64), before)


def tensor_specs(arguments: Sequence[Any]) -> tuple[TensorSpec, ...]:
    """What a session says of its inputs or outputs (`get_inputs()`), in this package's words."""
    return tuple(
        TensorSpec(each.name, _dtype(each.type), tuple(n if isinstance(n, int) else str(n) for n in each.shape))
        for each in arguments
    )


def _dtype(kind: str) -> str:
    """`float32` of `tensor(float)`; what is no tensor stays as it is called."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    return _DTYPES.get(name, name)


def _vocab_size(session: ort.InferenceSession, inputs: Sequence[TensorSpec]) -> int:
    sizes = {each.name: each.shape[-1] for each in session.get_outputs() if each.shape}
    sound = all(isinstance(spec.shape[axis], int) for spec in past.past_specs(inputs) for axis in (1, 3))
    whole = all(past.present_name(spec.name) in sizes for spec in past.past_specs(inputs))
    if not past.past_specs(inputs) or not sound or not whole or not isinstance(sizes.get("logits"), int):
        names = ", ".join(spec.name for spec in inputs)
        raise BundleError(
            "the graph is no decoder: expected past_key_values.0.key ... with a present each, and logits of fixed "
            f"sizes, got {names}"
        )
    return int(sizes["logits"])


def _make_room(buffers: list[Array], wanted: Sequence[tuple[TensorSpec, tuple[int, ...]]]) -> None:
    """Replace what is too small. Nothing is copied: the buffers are about to be written to as a whole."""
    if not buffers:
        buffers += [np.empty(0, spec.dtype) for spec, _ in wanted]
    for i, (spec, shape) in enumerate(wanted):
        size = int(np.prod(shape))
        if buffers[i].size < size:
            buffers[i] = np.empty(max(size, 2 * buffers[i].size), spec.dtype)


def _run(session: ort.InferenceSession, binding: Any) -> None:
    try:
        session.run_with_iobinding(binding)
    except Exception as error:  # onnxruntime's exceptions share no other base
        raise run_failed(error) from error
