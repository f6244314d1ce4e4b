"""The model card of a bundle: its README.md, as the Hugging Face hub reads it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence

from tledge.bundle import Manifest
from tledge.report import format as fmt
from tledge.report import images, processors, summary
from tledge.report.facts import Facts
from tledge.report.text import (
    adaptation_section,
    bench_markdown,
    bullets,
    code,
    distillation_section,
    escape,
    label_table,
    predictions_table,
    preprocessing_text,
    transfer_section,
    variants_table,
)

_USAGE = """\
```python
from tledge import Predictor

predictor = Predictor.load({path})  # the folder of this file

answer = predictor.predict({example})
print(answer)

answers = predictor.predict([{example}, {another}])
for each in answers:
    print({answer})
```"""
_GENERATION = """\
```python
from tledge.runtime import Generator

generator = Generator.load({path})  # the folder of this file

found = generator.generate({example}, max_new_tokens=40)
print(found.text)

for piece in generator.stream({example}, temperature=0.8, seed=1):
    print(piece, end="", flush=True)
```"""
_EXAMPLES: Mapping[str, tuple[str | tuple[str, str], ...]] = {
    "text": ("a text", "another text"),
    "words": ("a text", "another text"),
    "masked_text": ("The weather is [MASK] today.", "It is [MASK] to rain."),
    "sentence": ("a text", "another text"),
    "question": (("a question", "the text that answers it"), ("another question", "another text")),
    "text_pair": (("a text", "a second one"), ("another text", "its second one")),
    "image": ("photo.jpg", "another.jpg"),
    "boxed_image": ("photo.jpg", "another.jpg"),
}
_VECTORS = """\
```python
import numpy as np
from tledge import Predictor

predictor = Predictor.load({path})  # the folder of this file

answers = predictor.predict([{example}, {another}])
first, second = (np.array(answer["embedding"]) for answer in answers)
print(first @ second / np.linalg.norm(first) / np.linalg.norm(second))  # their cosine
```"""
_NOTES = {
    "sentence": "On the command line: the vector as an array, and the lines of a file that are nearest:",
    "question": "The text may be of any length. With `top_k=3` each answer also has `answers`, the three best ones. On "
    "the command line:",
    "image": "An image may be a path, the bytes of a file, a Pillow image or a uint8 array (height, width, 3). "
    "On the command line:",
    "boxed_image": "Boxes are in pixels of the upright image, from its upper left corner. An image may be a path, the "
    "bytes of a file, a Pillow image or a uint8 array (height, width, 3). On the command line, where `--draw FOLDER` "
    "writes pictures with their boxes:",
}
"""What is said below the example, before the command that does the same; nothing for the others."""


def model_card(
    facts: Facts,
    *,
    license: str | None = None,
    base_model: str | None = None,
    path: str = "bundle",
    example: str | tuple[str, str] | None = None,
) -> str:
    """The README.md of a bundle: front matter, measured results, usage, training, limits and labels.

    It holds no row of the data.

    Args:
        facts: What is known of the run; what is empty is said to be not measured.
        license: The hub's identifier of the license, such as `apache-2.0`; left out by default.
        base_model: The hub id of the backbone; left out by default.
        path: The bundle's folder in the usage example.
        example: The text, or the name of the image, in the usage example; made up by default.
    """
    blocks = [
        _front_matter(facts, license, base_model),
        f"# {escape(facts.recipe)}",
        f"{escape(summary.verdict(facts))}",
        "## Measured results",
        variants_table(facts),
        bullets(escape(sentence) for sentence in processors.sentences(facts)),
        predictions_table(facts) if facts.language else "",
        _how_measured(facts),
        bench_markdown(facts.bench, heading=False) if facts.bench else "",
        distillation_section(facts, "##"),
        adaptation_section(facts, "##"),
        transfer_section(facts, "##"),
        *(("## Input", _input(facts)) if facts.training.image else ()),
        "## Usage",
        "Install the package with `pip install tledge`, or open a graph in `onnx/` with any ONNX runtime.",
        _usage(facts, path, example or _EXAMPLES[facts.input_kind][0]),
        "## Training",
        bullets(_training(facts)),
        "## Limits",
        bullets(_limits(facts)),
        *_labels_section(facts),
        f"Made with tledge {escape(facts.version)}, {escape(fmt.moment(facts.created))}.",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def relabelled_card(manifest: Manifest, described: Mapping[str, Sequence[str]]) -> str:
    """The README.md of a bundle that got other labels, of which nothing is measured.

    Args:
        manifest: of the bundle that it was made of.
        described: the labels with their descriptions.
    """
    listed = (f"{code(name)}: {'; '.join(escape(text) for text in texts)}" for name, texts in described.items())
    example, another = (_literal(each) for each in _EXAMPLES[manifest.input.kind][:2])
    usage = _USAGE.format(path=json.dumps("bundle"), example=example, another=another, answer='each["label"]')
    blocks = [
        f"# {escape(manifest.name)}",
        "Relabelled without training: the head is made of what the labels are described by. Nothing was measured with "
        f"these labels; what was measured with the old ones ({', '.join(map(code, manifest.labels[:20]))}) says little "
        "about them.",
        "## Labels",
        bullets(listed),
        "## Usage",
        "Install the package with `pip install tledge`, or open a graph in `onnx/` with any ONNX runtime.",
        usage,
    ]
    return "\n\n".join(blocks) + "\n"


def _front_matter(facts: Facts, license_id: str | None, base_model: str | None) -> str:
    variant = summary.chosen(facts)
    tags = ["onnx", "onnxruntime", "tledge", *([variant.scheme] if variant and variant.scheme != "fp32" else [])]
    lines = [
        "library_name: onnx",
        *([f"pipeline_tag: {_yaml(facts.pipeline_tag)}"] if facts.pipeline_tag else []),
        *([f"license: {_yaml(license_id)}"] if license_id else []),
        *([f"base_model: {_yaml(base_model)}"] if base_model else []),
        "tags:",
        *(f"- {_yaml(tag)}" for tag in tags),
        "metrics:",
        f"- {_yaml(facts.metric)}",
    ]
    return "\n".join(["---", *lines, "---"])


def _yaml(text: str) -> str:
    """A YAML string: plain where that is safe, else in JSON's quotes, which YAML reads too."""
    plain = re.fullmatch(r"[a-z][a-z0-9_.-]*", text) and text not in _YAML_WORDS
    return text if plain else json.dumps(text)


_YAML_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def _usage(facts: Facts, path: str, example: str | tuple[str, str]) -> str:
    if facts.writes:
        return _generation(path, str(example))
    usage = (_USAGE if facts.vectors is None else _VECTORS).format(
        path=json.dumps(path),
        example=_literal(example),
        another=_literal(_EXAMPLES[facts.input_kind][1]),
        answer=facts.usage,
    )
    note = _NOTES.get(facts.input_kind)
    if note is None:
        return usage
    command = shlex.join(["tledge", "predict", path, *((example,) if isinstance(example, str) else example)])
    if facts.vectors is not None:
        command = f"{command} --npy vector.npy\n{command} --nearest lines.txt --top-k 5"
    return f"{usage}\n\n{note}\n\n```sh\n{command}\n```"


def _literal(example: str | tuple[str, str]) -> str:
    """An example as Python writes it, in double quotes."""
    if isinstance(example, str):
        return json.dumps(example, ensure_ascii=False)
    return f"({', '.join(json.dumps(each, ensure_ascii=False) for each in example)})"


def _generation(path: str, example: str) -> str:
    usage = _GENERATION.format(path=json.dumps(path), example=json.dumps(example, ensure_ascii=False))
    command = shlex.join(["tledge", "predict", path, example, "--max-new-tokens", "40", "--stream"])
    return (
        f"{usage}\n\nWithout a temperature it takes the most likely token each time. On the command line:\n\n"
        f"```sh\n{command}\n```"
    )


def _input(facts: Facts) -> str:
    image = facts.training.image
    size = f"The model takes images of {images.size(image)}, height first." if image and image.size else ""
    return " ".join(part for part in (size, preprocessing_text(facts)) if part)


def _how_measured(facts: Facts) -> str:
    variant = summary.chosen(facts)
    found = summary.quality(facts, variant) if variant else None
    sentences = []
    if found is not None and found.low is not None and found.high is not None:
        sentences.append(
            f"The {fmt.metric_name(facts.metric)} of {escape(variant.name if variant else '')} on "
            f"{fmt.rows(found.rows or 0)} of the {found.split} split has a 95 % interval of {fmt.metric(found.low)} to "
            f"{fmt.metric(found.high)}."
        )
    least = summary.baseline(facts)
    if least is not None:
        sentences.append(f"Always answering the {summary.baseline_name(facts)} gives {fmt.metric(least)}.")
    if variant is not None and variant.latency_ms is not None:
        at = f" at {escape(variant.latency_at)}" if variant.latency_at else ""
        what = "Latencies of one token" if facts.writes else "Latencies"
        sentences.append(f"{what} are medians{at}, measured interleaved on one machine; yours will differ.")
    if facts.parity:
        passed = sum(case.passed for case in facts.parity)
        worst = max(case.max_abs_diff for case in facts.parity)
        sentences.append(
            f"The fp32 graph agreed with torch in {passed} of {len(facts.parity)} cases; the largest difference was "
            f"{fmt.difference(worst)}."
        )
    return " ".join(sentences)


def _training(facts: Facts) -> list[str]:
    training = facts.training
    found = [f"Task: {escape(facts.task)}"]
    if training.backbone:
        what = "Teacher" if facts.distillation else "Model" if facts.language else "Backbone"
        found.append(f"{what}: {code(training.backbone)}" + (f", {training.pooling} pooling" * bool(training.pooling)))
    if training.strategy:
        found.append(f"Strategy: {'taken as it is' if training.strategy == 'none' else escape(training.strategy)}")
    found += _parameters(facts)
    if training.augmentation:
        found.append(f"Augmentation: {escape(images.augmentation(training.augmentation))}")
    if training.max_length is not None:
        length = f"{fmt.count(training.max_length)} tokens"
        overlap = (
            f"Windows: {length}, {fmt.count(training.stride or 0)} of them shared; longer texts are read in several"
        )
        plain = f"Longest input: {length}; longer ones are cut" if training.stride is None else overlap
        found.append(f"Blocks: {length}" if facts.language else plain)
    counts = facts.data.tokens if facts.language else facts.data.rows
    if counts:
        counted = ", ".join(f"{fmt.count(number)} {name}" for name, number in counts.items())
        found.append(f"{fmt.capital(summary.unit(facts))}: {counted}")
    if training.seed is not None:
        found.append(f"Seed: {training.seed}")
    return found


def _parameters(facts: Facts) -> list[str]:
    training, student = facts.training, facts.distillation
    found = []
    if training.parameters is not None:
        of = f", {fmt.parameters(training.trained_parameters)} of them trained" if training.trained_parameters else ""
        whose = "Parameters of the teacher" if student else "Parameters"
        found.append(f"{whose}: {fmt.parameters(training.parameters)}{of}")
    if student is not None:
        found.append(f"Student: {escape(student.student)}, {fmt.parameters(student.parameters)} parameters")
    return found


def _limits(facts: Facts) -> list[str]:
    found = [facts.scope]
    found += [escape(fmt.capital(text)) for text in summary.warnings(facts)]
    weak = sorted((s for s in facts.label_scores if s.f1 is not None), key=lambda s: s.f1 or 0.0)[:3]
    if weak:
        named = ", ".join(f"{code(s.label)} ({fmt.metric(s.f1)}, {fmt.rows(s.count)})" for s in weak)
        found.append(f"Weakest labels by F1 on the test rows: {named}.")
    pairs = summary.confusions(facts, 3)
    if pairs:
        found.append(
            "Most often confused: "
            + ", ".join(f"{code(p.truth)} as {code(p.predicted)} ({p.count} of {p.rows})" for p in pairs)
            + "."
        )
    return found


def _labels_section(facts: Facts) -> tuple[str, ...]:
    no_labels = facts.language or facts.vectors is not None
    if no_labels or (facts.marked and not facts.label_scores):  # parts of texts have none either
        return ()
    return "## Estimate" if facts.numeric else f"## Labels ({len(facts.labels)})", _labels(facts)


def _labels(facts: Facts) -> str:
    scores = {score.label: score for score in facts.label_scores}
    if not scores:
        return ", ".join(code(label) for label in facts.labels)
    return label_table(scores[label] for label in facts.labels if label in scores)
