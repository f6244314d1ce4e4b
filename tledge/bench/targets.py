"""What can be timed: a variant of a bundle, or an ONNX file that tledge did not make."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from tledge import bundle, inputs, overflow, past, processor, tasks
from tledge.artifacts import TensorSpec
from tledge.bench.made_up import Fixed, MadeUp, fixed_batch
from tledge.bundle import Manifest
from tledge.errors import BundleError, InputError, did_you_mean
from tledge.evaluate import Array
from tledge.runtime.decoder import step_feeds, tensor_specs
from tledge.runtime.session import COULD_NOT_RUN, open_session

Feeds = Callable[[int, int | None], Mapping[str, Array]]
"""Input tensors by name for a batch size and a sequence length, `None` for inputs without one."""

LENGTH = 32
"""Tokens of a text unless others are asked for or the model takes fewer."""

_ANY = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Target:
    """One graph to time.

    `name` is what results call it, `feeds` gives its inputs, and `max_length` is the most tokens it takes: `None` where
    its inputs have no length. `manifest` and `encoder` are those of its bundle, if it is in one. A run of a language
    model, which is `decoding`, is one token after so many as the length says. `fixed_batch` and `fixed_length` are what
    the graph takes alone, if it does, and `made_up` says how its inputs were made up, if they were.
    """

    name: str
    graph: Path
    feeds: Feeds
    max_length: int | None
    manifest: Manifest | None = None
    encoder: inputs.Input | None = None
    decoding: bool = False
    fixed_batch: Fixed | None = None
    fixed_length: Fixed | None = None
    made_up: str = ""

    def batch(self, asked: int | None = None) -> int:
        """The rows of a run: those asked for, or 1, or what the graph takes alone.

        Raises:
            InputError: a batch was asked for that the graph does not take.
        """
        return self._only("batch", asked, self.fixed_batch) or asked or 1

    def length(self, asked: int | None = None) -> int | None:
        """The tokens of a row: those asked for, or the usual number, or `None` where there is no length.

        Raises:
            InputError: a length was asked for that the model cannot take.
        """
        if self.fixed_length is not None:
            return self._only("length", asked, self.fixed_length)
        if self.max_length is None:
            if asked is not None:
                what = "images, which have no length" if self.encoder is not None else "inputs without a length"
                raise InputError(f"--length: {self.name} takes {what}; leave --length out")
            return None
        if asked is not None and asked > self.max_length:
            before = " before the one that is timed" if self.decoding else ""
            raise InputError(f"--length: {self.name} takes at most {self.max_length} tokens{before}, got {asked}")
        return min(LENGTH, self.max_length) if asked is None else asked

    def fixed_sizes(self) -> tuple[str, ...]:
        """One sentence for each size that the graph does not leave to who runs it."""
        found = []
        for fixed, all_have in (
            (self.fixed_batch, "all runs have a batch of {size}"),
            (self.fixed_length, "all rows have {size} tokens"),
        ):
            if fixed is not None and not fixed.by_option:
                found.append(
                    f"{self.name}: {all_have.format(size=fixed.size)}, as the graph takes no other ({fixed.why})"
                )
        return tuple(found)

    def caveats(self) -> tuple[str, ...]:
        """One sentence for each thing about the graph itself that a reader of its figures should know.

        Sizes that it fixes, int8 weights that can overflow, and another kind of processor than that of its evidence.
        """
        found = list(self.fixed_sizes())
        weights = overflow.check(self.graph)
        if weights.possible:
            here = ", as this one does" if processor.clips(processor.here()) else ""
            found.append(
                f"{self.name}: {overflow.told(weights)}: processors that add in 16 bits{here} answer otherwise; "
                f"{overflow.MEND}"
            )
        return (*found, *_unseen(self.manifest))

    def _only(self, what: str, asked: int | None, fixed: Fixed | None) -> int | None:
        """The only size that there is; `None` for any."""
        if fixed is None:
            return None
        if asked is not None and asked != fixed.size:
            if fixed.by_option:
                raise InputError(f"--{what}: {self.name} has {fixed.why}, got {asked}; leave one of them out")
            raise InputError(
                f"--{what}: {self.name} takes a {what} of {fixed.size} alone ({fixed.why}), got {asked}; "
                f"leave --{what} out, or export the graph for any {what}"
            )
        return fixed.size


def resolve(path: Path, variant: str | None = None, *, dims: Mapping[str, int] | None = None) -> Target:
    """The target in a bundle, a run folder or an ONNX file.

    Args:
        path: A bundle, a run folder or a file that ends in `.onnx`.
        variant: A variant of the bundle; the chosen one by default.
        dims: Sizes of an ONNX file's named dimensions, beside `batch` and `sequence`.

    Raises:
        BundleError: there is no such thing, or it is damaged.
        InputError: the bundle has no such variant, or a dimension's size is not known.
    """
    if path.suffix == ".onnx":
        if not path.is_file():
            raise BundleError(f"there is no {path}; expected a bundle, a run folder or an .onnx file")
        if variant is not None:
            raise InputError(f"--variant: {path} is one graph without variants; leave --variant out")
        return _plain(path, dims or {})
    if dims:
        raise InputError(f"--dim: {path} is a bundle, which knows its inputs; leave --dim out")
    folder = bundle.find(path)
    manifest = bundle.load(folder)
    name = variant or manifest.chosen
    known = [each.name for each in manifest.variants]
    if name not in known:
        raise InputError(
            f"--variant: {name!r} is not in {path}; known are {', '.join(known)}{did_you_mean(name, known)}"
        )
    return of_bundle(folder, manifest, inputs.load(tasks.load(manifest.task).INPUT, folder), name)


def of_bundle(
    folder: Path, manifest: Manifest, encoder: inputs.Input, variant: str, *, name: str | None = None
) -> Target:
    """A variant of a bundle that is opened already; results call it `name`, by default as the variant is called."""
    found = manifest.variant(variant)
    path = bundle.graph_path(folder, found)
    target = functools.partial(Target, name or variant, path, manifest=manifest, encoder=encoder)
    if manifest.generation is None:
        return target(encoder.dummy, encoder.max_length)
    return target(
        _steps(found.graph.inputs, found.graph.outputs), manifest.generation.context_length - 1, decoding=True
    )


def variants(path: Path, asked: Sequence[str] = (), *, dims: Mapping[str, int] | None = None) -> list[Target]:
    """The targets in a bundle or run folder, those asked for or all, or the one of an ONNX file; as for `resolve`."""
    if path.suffix == ".onnx":
        return [resolve(path, asked[0] if asked else None, dims=dims)]
    known = [variant.name for variant in bundle.load(bundle.find(path)).variants]
    return [resolve(path, name) for name in dict.fromkeys(asked or known)]


def shared(new: Target, old: Target, batch: int | None, length: int | None) -> tuple[int, int | None]:
    """The batch and the length at which two targets are compared: those asked for, or what both take.

    Raises:
        InputError: one of them does not take what was asked for, or they take no size in common.
    """
    batch = batch or _in_common("batch", new, old, new.fixed_batch, old.fixed_batch)
    if length is None and old.max_length is not None and new.max_length is not None:
        length = _in_common("length", new, old, new.fixed_length, old.fixed_length)
    new.batch(batch)
    length = old.length(length)
    new.length(length)
    return old.batch(batch), length


def _in_common(what: str, new: Target, old: Target, one: Fixed | None, other: Fixed | None) -> int | None:
    """The only size that two targets take, where one of them takes one alone."""
    if one is not None and other is not None and one.size != other.size:
        raise InputError(
            f"--against: {new.name} takes a {what} of {one.size} alone ({one.why}), {old.name} one of {other.size} "
            f"({other.why}); export both for any {what}"
        )
    fixed = one or other
    return None if fixed is None else fixed.size


@contextmanager
def telling(found: Sequence[Target]) -> Iterator[None]:
    """Lets an error of a run name the inputs of graphs that were made up for it."""
    try:
        yield
    except (BundleError, InputError) as error:
        made_up = dict.fromkeys(each.made_up for each in found if each.made_up)
        if COULD_NOT_RUN not in str(error) or not made_up:
            raise
        raise type(error)(f"{error}; its inputs were made up: {'; '.join(made_up)}") from error


def title(target: Target, path: Path) -> str:
    """A target with where it is from: `int8_dynamic of runs/new`, or the file's name."""
    return str(path) if target.manifest is None else f"{target.name} of {path}"


def is_accepted(encoder: inputs.Input, value: object) -> bool:
    """Whether preprocessing takes a value: some tokenizers give nothing for an empty text."""
    try:
        encoder.encode([value])
    except InputError:
        return False
    return True


def _unseen(manifest: Manifest | None) -> list[str]:
    """That a bundle's evidence is from other kinds of processor than this one, where it is."""
    kinds = sorted({v.processor.kind for v in manifest.variants if v.processor is not None}) if manifest else []
    here = processor.here().kind
    if not kinds or here in kinds:
        return []
    return [
        f"the bundle was scored and timed on {' and '.join(kinds)}, and this machine is {here}: its answers here are "
        "checked by tledge verify, and another variant may be the fastest"
    ]


def _steps(taken: Sequence[TensorSpec], given: Sequence[TensorSpec]) -> Feeds:
    """Gives what a decoder's graph takes for one token in each row, after a past of so many."""
    vocab_size = next(int(spec.shape[-1]) for spec in given if spec.name == "logits")
    return lambda batch, length: step_feeds(taken, batch, length or 0, vocab_size=vocab_size)


def _is_decoder(taken: Sequence[TensorSpec], given: Sequence[TensorSpec]) -> bool:
    """Whether a graph takes a past and single tokens and gives logits, all of known sizes."""
    sizes = [spec.shape[axis] for spec in past.past_specs(taken) for axis in (1, 3)]
    vocabulary = [spec.shape[-1] for spec in given if spec.name == "logits"]
    several = [
        spec for spec in taken if spec.name == "input_ids" and isinstance(spec.shape[1], int) and spec.shape[1] > 1
    ]
    return bool(sizes and vocabulary and not several) and all(isinstance(size, int) for size in (*sizes, *vocabulary))


def _decoder(
    path: Path, session: ort.InferenceSession, taken: Sequence[TensorSpec], given: Sequence[TensorSpec]
) -> Target:
    batch = fixed_batch(session.get_inputs(), session.get_outputs(), {})
    kept = next(spec for spec in past.past_specs(taken))
    length = Fixed(kept.shape[2], f"its input {kept.name!r} holds as many") if isinstance(kept.shape[2], int) else None
    return Target(path.stem, path, _steps(taken, given), _ANY, decoding=True, fixed_batch=batch, fixed_length=length)


def _plain(path: Path, dims: Mapping[str, int]) -> Target:
    session = open_session(path, threads=1)
    specs, outputs = (tensor_specs(each) for each in (session.get_inputs(), session.get_outputs()))
    if _is_decoder(specs, outputs) and not dims:
        return _decoder(path, session, specs, outputs)
    feeds = MadeUp(session, path, dims)
    sizes = feeds.sizes
    target = Target(
        path.stem,
        path,
        feeds,
        _ANY if sizes.has_length else None,
        fixed_batch=sizes.batch,
        fixed_length=sizes.length,
        made_up=str(feeds),
    )
    feeds(target.batch(), target.length())  # what is not known is told before anything is timed
    return target
