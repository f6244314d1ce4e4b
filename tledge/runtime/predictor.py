"""Predict with a bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime as ort

from tledge import bundle, inputs, tasks
from tledge.bundle import Manifest
from tledge.errors import BundleError, InputError, RecipeError
from tledge.evaluate import Run
from tledge.inputs.sentence import SentenceInput
from tledge.inputs.text import TextInput
from tledge.runtime.generate import Generated, Generator
from tledge.runtime.session import open_session, session_run


class Predictor:
    """A bundle, opened for predicting.

    ============================================  =====================================================
    `Predictor.load("bundle")`                    open the variant that was chosen when it was bundled
    `Predictor.load("bundle", variant="fp32")`    open another variant
    `predictor.predict("a text")`                 one answer: `{"label": ..., "score": ..., ...}`
    `predictor.predict(["a text", "more"])`       a list of answers, in order
    `predictor.predict("photo.jpg")`              the same for images: a path, bytes, a PIL image or an array
    `predictor.predict("It is [MASK].")`          of a masked one: `{"masks": [{"words": [...]}], ...}`
    `predictor.predict("a text")`                 of a model of vectors: `{"embedding": [...]}`; `prompt="query"` too
    `predictor.predict("Once upon")`              of a language model: `{"generated": ..., "tokens": ..., ...}`
    `predictor.predict(("who?", "a text"))`       of a question and the text that answers it: `{"answer": ..., ...}`
    `predictor.predict_iter(lines)`               answers as they come, for long streams
    `predictor.labels`, `.task`, `.variant`       the label names in order, and what is running
    `predictor.manifest`                          everything else that the bundle says of itself
    `predictor.generator`                         a language model's `Generator`, which streams; else `None`
    `predictor.prompts`                           what a model of vectors puts before texts, by name; else `None`
    ============================================  =====================================================

    One predictor serves many threads.
    """

    def __init__(self, manifest: Manifest, variant: str, encoder: inputs.Input, session: ort.InferenceSession) -> None:
        self.manifest = manifest
        self.variant = variant
        self.task = manifest.task
        self.labels = manifest.labels
        self.generator: Generator | None = None
        self._task = task_of(manifest)
        self._encoder = encoder
        self.prompts: Mapping[str, str] | None = getattr(encoder, "prompts", None)
        self._run = checked(session_run(session), self._task, manifest.labels)
        if manifest.generation is not None:
            self.generator = Generator(session, cast("TextInput", encoder), manifest.generation)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        variant: str | None = None,
        provider: str = "cpu",
        threads: int | None = None,
    ) -> Predictor:
        """Open a bundle. The size of its graph is compared here, hashes are not: `tledge verify` does that.

        Args:
            path: The bundle's folder.
            variant: The name of a variant; by default the one chosen when the bundle was made.
            provider: Where it runs: `cpu`, `cuda`, `openvino` ... or onnxruntime's own name.
            threads: Threads of one run; by default the cores that this process may use.

        Raises:
            BundleError: the folder is not a bundle, or is damaged.
            InputError: the variant or the provider is not there.
        """
        folder = Path(path)
        manifest = bundle.load(folder)
        opened = bundle.find_variant(manifest, variant, folder)
        encoder = inputs.load(manifest.input.kind, folder)
        session = open_session(bundle.graph_path(folder, opened), provider=provider, threads=threads)
        return cls(manifest, opened.name, encoder, session)

    def predict(self, values: Any, *, batch_size: int = 1, prompt: str | None = None, **options: Any) -> Any:
        """The answer for one value, or a list of answers for several; an answer is a dict of plain JSON types.

        Args:
            values: One text, or any iterable of texts; for pairs a tuple of two, or an iterable of such. For images: a
                path, the bytes of a file, a PIL image, an array `(height, width)` or `(height, width, channels)`, a
                mapping with `bytes` or `path`; or an iterable of those, which an array of four dimensions is.
            batch_size: Values in one run. The default of 1 is what the stored metrics were measured with, and it
                matters: a dynamically quantized graph takes its scales from the whole batch, so that an answer can
                depend on its neighbours; and a CPU gains little from a batch that it must pad.
            prompt: For a model of vectors the name of what it puts before a text, such as `query`; by default its own
                default one, or nothing.
            options: For a language model those of `Generator.generate`, such as `max_new_tokens`; for hidden words
                `top_k`, how many words there are for each, 5 by default; for questions `top_k`, how many of the best
                answers there are as `answers`; else none.

        Raises:
            InputError: a value is no text, or no image that can be read, and the message names it; or an option is
                not for this bundle.
        """
        if self._encoder.is_one(values):
            return next(self.predict_iter([values], prompt=prompt, **options))
        listed = list(values)
        for i, value in enumerate(listed):
            _named(i, self._encoder.check, value)
        try:
            return list(self.predict_iter(listed, batch_size=batch_size, prompt=prompt, **options))
        except InputError:
            for i, value in enumerate(listed):  # a file can be damaged behind its header, and a prompt too long
                _named(i, self._refuse, value)
            raise

    def predict_iter(
        self, values: Iterable[Any], *, batch_size: int = 1, prompt: str | None = None, **options: Any
    ) -> Iterator[dict[str, Any]]:
        """Answers one after another, without holding more than one batch of values.

        Raises:
            InputError: as for `predict`, when the value's turn comes.
        """
        if batch_size < 1:
            raise InputError(f"batch_size must be 1 or more, got {batch_size}")
        taken = tasks.options(self._task)
        if self.generator is None and (others := [name for name in options if name not in taken]):
            raise InputError(f"{', '.join(others)} is for language models; the task of this bundle is {self.task}")
        if not self._encoder.batches:
            batch_size = 1
        rest = iter(values) if prompt is None else (self._prompted(value, prompt) for value in values)
        while batch := list(islice(rest, batch_size)):
            if self.generator is None:
                outputs, _ = self._encoder.answers(self._run, batch)
                yield from (
                    tasks.narrowed(self._task, each, options) for each in self._task.decode(outputs, self.labels)
                )
            else:
                yield from map(_answer, self.generator.generate(batch, batch_size=batch_size, **options))

    def holds(self, cell: object) -> bool:
        """Whether a cell of a table holds what the model reads: a text, the name of an image, the tokens of a text."""
        return self._encoder.holds(cell)

    def n_cut(self, value: Any) -> int:
        """How many tokens of a value are left out, since it has more than the model reads; 0 where none is.

        Raises:
            InputError: `value` is none that the model takes.
        """
        cut: Callable[[Any], int] = getattr(self._encoder, "n_cut", lambda value: 0)
        return cut(value)

    def unknown_share(self, value: Any) -> float:
        """The share of a value's tokens that the vocabulary does not know, 0 to 1; 0 where there is no vocabulary.

        Raises:
            InputError: `value` is none that the model takes.
        """
        return self._encoder.unknown_share([value]) or 0.0

    def _prompted(self, value: Any, name: str) -> Any:
        if self.prompts is None:
            raise InputError(f"prompt: only for models of vectors; the task of this bundle is {self.task}")
        return cast("SentenceInput", self._encoder).prompted(value, name)

    def _refuse(self, value: Any) -> None:
        """Raise what is wrong with a value, if anything is."""
        if self.generator is None:
            self._encoder.encode([value])
        else:
            self.generator.prompt_ids(value)


def _answer(generated: Generated) -> dict[str, Any]:
    return {"generated": generated.text, "tokens": generated.tokens, "finish_reason": generated.finish_reason}


def _named(i: int, function: Callable[[Any], object], argument: object) -> None:
    try:
        function(argument)
    except InputError as error:
        raise InputError(f"value {i}: {error}") from error


def checked(run: Run, task: tasks.Task, labels: Sequence[str]) -> Run:
    """The same run, whose outputs are refused where no task can read them."""
    own: Callable[[Mapping[str, Any], Sequence[str], int], None] | None = getattr(task, "require_outputs", None)

    def checked_run(tensors: Mapping[str, Any]) -> dict[str, Any]:
        outputs = run(tensors)
        if own is not None:
            own(outputs, labels, len(next(iter(tensors.values()))))
        else:
            require_answers(outputs, task.OUTPUT, answer_shape(task, labels, tensors))
        return outputs

    return checked_run


def answer_shape(task: tasks.Task, labels: Sequence[str], tensors: Mapping[str, Any]) -> tuple[int | None, ...]:
    """The shape of a task's output for some tensors: `(rows, outputs)`, or `(rows, tokens, outputs)`.

    Without labels there may be any number of outputs, such as one for each token of a vocabulary: `None`.
    """
    first = next(iter(tensors.values()))
    return (*first.shape[: 1 + task.PER_TOKEN], len(task.output_names(labels)) or None)


def require_answers(outputs: Mapping[str, Any], output: str, shape: tuple[int | None, ...]) -> None:
    """Refuse what no task can read: an output that is missing, or not finite floats of that shape.

    Raises:
        BundleError: they are such.
    """
    found = outputs.get(output)
    if found is None or not _fits(found.shape, shape) or found.dtype.kind != "f":
        got = "none" if found is None else f"{found.dtype} {found.shape}"
        raise BundleError(
            f"the graph must give {output}, floats {shape}, got {got}; check the bundle with: tledge verify"
        )
    if not np.isfinite(found).all():
        raise BundleError("the graph gave something that is no finite number; check the bundle with: tledge verify")


def _fits(found: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(found) == len(expected) and all(b in (None, a) for a, b in zip(found, expected, strict=True))


def task_of(manifest: Manifest) -> tasks.Task:
    """The task of a bundle.

    Raises:
        BundleError: it is not known here, or the rest of the manifest is of another one.
    """
    try:
        task = tasks.load(manifest.task)
    except RecipeError as error:
        raise BundleError(f"the bundle's task is unknown here: {error}; upgrade tledge") from error
    kind = manifest.input.kind, manifest.problem_type, manifest.generation is not None
    if kind != (task.INPUT, task.PROBLEM_TYPE, task.GENERATES):
        raise BundleError(f"the bundle's task is {manifest.task}, but its input, problem_type or generation are not")
    if len(manifest.labels) not in task.N_LABELS:
        raise BundleError(f"the bundle has {len(manifest.labels)} labels, which the task {manifest.task} cannot have")
    for spec in manifest.outputs if manifest.labels else ():
        width, known = spec.shape[-1] if spec.shape else 0, len(task.output_names(manifest.labels))
        if spec.name == "logits" and isinstance(width, int) and width != known:
            raise BundleError(f"the bundle's {len(manifest.labels)} labels have {known} outputs, but the graph {width}")
    return task
