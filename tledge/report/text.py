"""Markdown for a pull request or a terminal: compact, and safe with any text of the user's."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from tledge.artifacts import BenchResult, Variant
from tledge.report import adaptation, benchmark, images, language, processors, quantized, sections, summary, transfer
from tledge.report import distillation as learnt
from tledge.report import format as fmt
from tledge.report.facts import Detections, Facts, LabelScore, WrongPrediction
from tledge.report.figure import Figure

_LONGEST = 160
_WEAKEST = 5
_BARE_PIPE, _ESCAPED_PIPE = r"(?<!\\)\|", r"\\|"


def markdown(facts: Facts) -> str:
    """The report of a run for a pull request: the verdict, the variants, the latencies, and what went wrong."""
    blocks = [
        f"## {escape(facts.recipe)}: {escape(summary.verdict(facts))}",
        _notes(summary.warnings(facts)),
        bullets(_figure(figure) for figure in summary.key_figures(facts)),
        "### Variants",
        variants_table(facts),
        bullets(escape(sentence) for sentence in processors.sentences(facts)),
        *(_candidates(facts, group) for group in quantized.groups(facts)),
        distillation_section(facts, "###"),
        adaptation_section(facts, "###"),
        transfer_section(facts, "###"),
        "### Latency",
        bench_markdown(facts.bench, heading=False) if facts.bench else "Not measured.",
        *_outcome(facts),
        *(("### Preprocessing", preprocessing_text(facts)) if facts.preprocessing else ()),
        _provenance(facts),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def bench_markdown(result: BenchResult, *, heading: bool = True) -> str:
    """A benchmark as Markdown: latencies by setting, footprints, what else was measured, notes and the machine.

    Args:
        result: What was measured.
        heading: Start with a heading of its own.
    """
    latencies = benchmark.table(result)
    header = ("setting", "candidate", *(f"{name}, ms" for name in latencies.percentiles))
    against = f"against {escape(latencies.reference)}"
    rows = [
        (block.setting, code(row.candidate), *row.percentiles, row.against, fmt.count(row.samples))
        for block in latencies.blocks
        for row in block.rows
    ]
    footprint_header, footprints = benchmark.footprints(result)
    machine = ", ".join(f"{name}: {value}" for name, value in benchmark.machine_facts(result.machine))
    measured = sections.sections(result)
    blocks = [
        "## Benchmark" if heading else "",
        table((*header, against, "samples"), rows) if rows else _without_latencies(result),
        bullets(escape(text) for text in latencies.missing),
        *(_section(each) for each in measured if each.leads),
        table(footprint_header, [(code(name), *map(escape, rest)) for name, *rest in footprints]) if footprints else "",
        *(_section(each) for each in measured if not each.leads),
        bullets(escape(note) for note in result.notes) if heading else "",
        f"Measured {escape(fmt.moment(result.created))} on {escape(machine)}."
        if result.created
        else f"Machine: {escape(machine)}.",
    ]
    return "\n\n".join(block for block in blocks if block) + ("\n" if heading else "")


def _without_latencies(result: BenchResult) -> str:
    return "" if result.generations or result.comparisons else "No latency was measured."


def variants_table(facts: Facts) -> str:
    """Every variant with its figures and the reason for its verdict."""
    if not facts.variants:
        return "No variant was made."
    metric = fmt.metric_name(facts.metric)
    latency = "one token" if facts.writes else "latency"
    header = ("variant", f"test {metric}", f"validation {metric}", latency, "against fp32", "size", "verdict")
    return table(header, [_variant_row(facts, variant) for variant in facts.variants])


def transfer_section(facts: Facts, level: str) -> str:
    """What the pretrained weights gave, under a heading of that level; empty where no random backbone was trained."""
    found = transfer.table(facts)
    if found is None:
        return ""
    rows = [(escape(name), *cells) for name, cells in found.rows]
    blocks = (f"{level} What transfer gave", escape(found.sentence), table(("model, test rows", *found.header), rows))
    return "\n\n".join(block for block in blocks if block)


def adaptation_section(facts: Facts, level: str) -> str:
    """What adapting to another domain gave, under a heading of that level; empty where nothing was adapted."""
    found = adaptation.table(facts)
    if found is None:
        return ""
    rows = [(f"**{escape(name)}**" if ships else escape(name), *cells) for name, cells, ships in found.rows]
    judging = facts.adaptation is not None and facts.adaptation.n_judge is not None
    head = "method, rows that judge" if judging else "method"
    blocks = (
        f"{level} Another domain",
        escape(" ".join(adaptation.sentences(facts))),
        table((head, *found.header), rows),
    )
    return "\n\n".join(block for block in blocks if block)


def distillation_section(facts: Facts, level: str) -> str:
    """What the student learnt, under a heading of that level; empty where nothing was distilled."""
    found = learnt.table(facts)
    if facts.distillation is None or found is None:
        return ""
    rows = [(escape(name), *cells) for name, cells in found.rows]
    blocks = [
        f"{level} Distillation",
        escape(" ".join(learnt.sentences(facts))),
        table((f"on the test {summary.unit(facts)}", *found.header), rows),
        bullets(f"{escape(fmt.capital(name))}: {escape(value)}" for name, value in learnt.facts_of(facts) if value),
    ]
    if found.others:
        names, others = found.others
        rows = [(escape(name), *cells) for name, cells in others]
        blocks.append(_folded("Other metrics", table(("mean over seeds", *names), rows)))
    steps = learnt.ladder(facts)
    if steps:
        at = learnt.measured_at(facts)
        rows = [
            (*map(escape, step.cells), f"{'**chosen**: ' if step.chosen else ''}{escape(step.reason)}")
            for step in steps
        ]
        ladder = table((*learnt.ladder_header(facts), "why, or why not"), rows)
        blocks.append(_folded("What the budget allowed", f"{ladder}\n\nMeasured at {escape(at)}." if at else ladder))
    return "\n\n".join(block for block in blocks if block)


def predictions_table(facts: Facts) -> str:
    """How well each variant of a language model predicts texts."""
    found = language.table(facts)
    if found is None:
        return "How well it predicts: not measured."
    rows = [(block.split, block.tokens, code(name), *cells) for block in found.blocks for name, cells in block.rows]
    return table(("split", "scored", "variant", *found.header), rows)


def preprocessing_text(facts: Facts) -> str:
    """How images become tensors, and how far that is from the library's own way."""
    image = facts.training.image
    told = images.preprocessing(image) if image else ""
    sentences = images.comparison(facts.preprocessing) if facts.preprocessing else ()
    return escape(" ".join([*([f"{fmt.capital(told)}."] if told else []), *sentences]))


def label_table(scores: Iterable[LabelScore]) -> str:
    """Scores by label; a dash where there is nothing to divide by."""
    rows = [
        (
            code(score.label),
            fmt.count(score.count),
            *("-" if value is None else fmt.metric(value) for value in (score.precision, score.recall, score.f1)),
        )
        for score in scores
    ]
    return table(("label", "test rows", "precision", "recall", "F1"), rows)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of cells that are Markdown already; a bare pipe in one is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(re.sub(_BARE_PIPE, _ESCAPED_PIPE, cell) for cell in line)} |" for line in lines)


def bullets(items: Iterable[str]) -> str:
    """A Markdown list of items that are Markdown already."""
    return "\n".join(f"- {item}" for item in items)


def code(text: str) -> str:
    """The text as a code span on one line, cut when very long."""
    plain = clean(text)
    plain = plain if len(plain) <= _LONGEST else plain[: _LONGEST - 1] + "…"
    if not plain:
        return "(empty)"
    fence = "`" * (max((len(run) for run in re.findall(r"`+", plain)), default=0) + 1)
    pad = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def escape(text: str) -> str:
    """The text on one line, with every character that Markdown or HTML would take for its own escaped."""
    escaped = re.sub(r"([\\`*_{}\[\]|~])", r"\\\1", clean(text))
    return re.sub(r"^([#>+-])", r"\\\1", escaped).replace("&", "&amp;").replace("<", "&lt;")


def clean(text: str) -> str:
    """The text on one line without control characters, those that turn the direction of writing included."""
    spaced = " ".join(text.split())
    return "".join(c for c in spaced if unicodedata.category(c) != "Cc" and c not in _BIDI_CONTROLS)


_BIDI_CONTROLS = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))


def _section(section: sections.Section) -> str:
    words = {0, *(section.header.index(name) for name in section.words)}
    rows = [
        [code(cell) if i == 0 else escape(cell) if i in words else cell for i, cell in enumerate(row)]
        for row in section.rows
    ]
    drawn = table(section.header, rows)
    notes = bullets(escape(note) for note in section.notes)
    blocks = _folded(section.title, drawn) if section.long else f"**{section.title}**\n\n{drawn}"
    return "\n\n".join(block for block in (blocks, notes) if block)


def _notes(texts: Sequence[str]) -> str:
    return "\n".join(["> [!NOTE]", *(f"> - {escape(fmt.capital(text))}" for text in texts)]) if texts else ""


def _figure(figure: Figure) -> str:
    details = f" ({escape('; '.join(figure.details))})" if figure.details else ""
    return f"{escape(figure.name)}: **{escape(figure.value)}**{details}"


def _variant_row(facts: Facts, variant: Variant) -> tuple[str, ...]:
    ratio = variant.against_fp32
    name = code(variant.name)
    return (
        f"**{name}**" if variant.chosen else name,
        fmt.score(facts.metric, variant.test_metrics.get(facts.metric)),
        fmt.score(facts.metric, variant.metrics.get(facts.metric)),
        fmt.NOT_MEASURED if variant.latency_ms is None else f"{fmt.milliseconds(variant.latency_ms)} ms",
        "-" if ratio is None else fmt.speed(ratio),
        fmt.size(variant.graph.size_bytes),
        f"{'**ships**' if variant.chosen else 'not chosen'}{': ' * bool(variant.reason)}{escape(variant.reason)}",
    )


def _outcome(facts: Facts) -> tuple[str, str]:
    """What the model gives for test rows, under its heading."""
    if facts.language:
        return "### Texts", _texts(facts)
    if facts.vectors is not None:
        return "### Vectors", _vectors(facts)
    if facts.detections is not None:
        return "### Errors", _detections(facts, facts.detections)
    return "### Errors", _mistakes(facts)


def _detections(facts: Facts, found: Detections) -> str:
    """The metrics of boxes, those of each label and size, and the pictures with most mistakes."""
    blocks = [", ".join(f"{name} {value}" for name, value in summary.test_metrics(facts)) + "."]
    weakest = sorted(found.scores, key=lambda each: each.map)[:_WEAKEST]
    rows = [(code(s.label), fmt.count(s.count), *map(fmt.metric, (s.map, s.map_50, s.recall))) for s in weakest]
    blocks.append(_folded("Weakest labels", table(("label", "boxes", "AP", "AP at IoU 0.5", "recall"), rows)))
    if found.sizes:
        rows = [
            (size, fmt.count(int(each["boxes"])), *(fmt.metric(each[name]) for name in ("map", "map_50", "recall")))
            for size, each in found.sizes.items()
        ]
        blocks.append(_folded("By size", table(("size", "boxes", "mean AP", "at IoU 0.5", "recall"), rows)))
    wrong = [each for each in found.pictures if each.missed or each.false][:_WEAKEST]
    if wrong:
        mistakes = [(code(each.row), str(each.missed), str(each.false)) for each in wrong]
        title = f"Most mistakes at the score of {fmt.metric(found.threshold)} and above"
        blocks.append(_folded(title, table(("picture", "missed", "false"), mistakes)))
    return "\n\n".join(blocks)


def _vectors(facts: Facts) -> str:
    """The metrics of vectors, and the nearest texts of some."""
    blocks = [", ".join(f"{name} {value}" for name, value in summary.test_metrics(facts)) + "."]
    if facts.vectors is not None and facts.vectors.neighbours:
        rows = [
            (code(each.text), code(text), fmt.metric(cosine))
            for each in facts.vectors.neighbours
            for text, cosine in each.nearest[:_WEAKEST]
        ]
        blocks.append(_folded("Nearest texts", table(("text", "near it", "cosine"), rows)))
    return "\n\n".join(blocks)


def _texts(facts: Facts) -> str:
    blocks = [predictions_table(facts)]
    if facts.samples:
        rows = [(code(sample.prompt), code(sample.text)) for sample in facts.samples]
        what = (
            ("What it finds", ("text", "words")) if facts.hidden else ("How it goes on", ("prompt", "most likely text"))
        )
        blocks.append(_folded(what[0], table(what[1], rows)))
    return "\n\n".join(blocks)


def _mistakes(facts: Facts) -> str:
    return _estimates(facts) if facts.numeric else _errors(facts)


def _errors(facts: Facts) -> str:
    blocks = [_error_count(facts)]
    pairs = summary.confusions(facts, _WEAKEST)
    if pairs:
        found = "; ".join(f"{code(p.truth)} as {code(p.predicted)} {p.count} of {p.rows} times" for p in pairs)
        blocks.append(f"Most often confused: {found}.")
    scored = [score for score in facts.label_scores if score.f1 is not None]
    weakest = sorted(scored, key=lambda score: score.f1 or 0.0)[:_WEAKEST]
    if weakest:
        blocks.append(_folded("Weakest labels", label_table(weakest)))
    if facts.wrong:
        rows = [
            (_row_name(w), code(w.truth), code(w.predicted), "-" if w.score is None else fmt.metric(w.score))
            for w in facts.wrong
        ]
        blocks.append(_folded("Wrong predictions", table((_input_name(facts), "truth", "predicted", "score"), rows)))
    if facts.marked:
        marked = [(code(text), code(truth), code(given)) for text, truth, given in summary.marked(facts)]
        blocks.append(_folded("Texts", table(("text", "missed", "found"), marked)))
    return "\n\n".join(blocks)


def _estimates(facts: Facts) -> str:
    """The metrics of estimated numbers, quantiles of the errors and the largest ones."""
    if facts.regression is None:
        return "Errors on test rows: not measured."
    blocks = [", ".join(f"{name} {value}" for name, value in summary.test_metrics(facts)) + "."]
    quantiles = summary.residuals(facts)
    if quantiles:
        told = "; ".join(f"{share} are at or below {value}" for share, value in quantiles)
        blocks.append(f"Estimate minus truth on the test rows: {told}.")
    if facts.wrong:
        rows = [
            (
                _row_name(w),
                escape(w.truth),
                escape(w.predicted),
                "-" if w.error is None else fmt.quantity(w.error),
            )
            for w in facts.wrong
        ]
        blocks.append(_folded("Largest errors", table((_input_name(facts), "truth", "estimate", "error"), rows)))
    return "\n\n".join(blocks)


def _input_name(facts: Facts) -> str:
    return facts.input_kind.replace("_", " ")


def _row_name(wrong: WrongPrediction) -> str:
    return code(wrong.text or wrong.row)


def _candidates(facts: Facts, group: quantized.Group) -> str:
    header = (*group.settings, f"validation {fmt.metric_name(facts.metric)}", "against fp32", "why, or why not")
    rows = [
        (
            *map(escape, row.settings),
            row.metric,
            f"{row.speed} ({row.interval})" if row.interval else row.speed,
            f"{'**picked**' if row.picked else ''}{': ' * (row.picked and bool(row.reason))}{escape(row.reason)}",
        )
        for row in group.rows
    ]
    return _folded(f"What {escape(group.scheme)} tried", table(header, rows))


def _error_count(facts: Facts) -> str:
    rows = facts.data.rows.get("test")
    if facts.wrong_count is None:
        return "Wrong predictions on test rows: not measured."
    of = f" of {fmt.rows(rows)}" if rows else ""
    return f"{fmt.count(facts.wrong_count)}{of} of the test split wrong."


def _provenance(facts: Facts) -> str:
    training = facts.training
    parts = [f"tledge {facts.version}", facts.task, training.backbone, training.strategy]
    parts += [f"seed {training.seed}"] if training.seed is not None else []
    return f"{escape(', '.join(part for part in parts if part))}; {escape(fmt.moment(facts.created))}"


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"
