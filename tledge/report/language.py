"""What a report tells of a language model: how well it predicts, how fast it writes, and how it goes on with texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tledge.artifacts import Generation, Variant
from tledge.report import format as fmt
from tledge.report.facts import Facts
from tledge.report.figure import Figure

METRICS = ("perplexity", "pseudo_perplexity", "loss", "bits_per_byte", "next_token_accuracy", "mask_accuracy")
"""What is told of a variant, in this order."""


@dataclass(frozen=True, slots=True)
class Block:
    """One split, and in words how much of it was scored.

    `rows` are names of variants with a cell for each of the table's `header`.
    """

    split: str
    tokens: str
    rows: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """The metrics of every variant, split by split."""

    header: tuple[str, ...]
    blocks: tuple[Block, ...]


def table(facts: Facts) -> Table | None:
    """How well each variant predicts the texts of the test and the validation split; `None` where nothing is known."""
    splits = {
        "test": {variant.name: variant.test_metrics for variant in facts.variants if variant.test_metrics},
        "validation": {variant.name: variant.metrics for variant in facts.variants if variant.metrics},
    }
    known = {metric for found in splits.values() for metrics in found.values() for metric in metrics}
    names = [name for name in METRICS if name in known]
    if not names:
        return None
    blocks = (
        Block(
            split,
            _scored(facts, split) or "tokens",
            tuple(
                (variant, tuple(fmt.score(name, metrics.get(name)) for name in names))
                for variant, metrics in found.items()
            ),
        )
        for split, found in splits.items()
        if found
    )
    return Table(tuple(_TITLES.get(name, fmt.metric_name(name)) for name in names), tuple(blocks))


def _scored(facts: Facts, split: str) -> str:
    """How many tokens of a split variants were scored on: `12,800 of 295,808 tokens`; empty where it is not known."""
    scored, tokens = facts.data.scored_tokens.get(split), facts.data.tokens.get(split)
    if scored is None:
        return ""
    return (
        f"{fmt.count(scored)} tokens"
        if tokens in (None, scored)
        else f"{fmt.count(scored)} of {fmt.count(tokens)} tokens"
    )


_TITLES = {"loss": "loss, nats a token"}


def _perplexity(facts: Facts) -> str:
    return "pseudo_perplexity" if facts.hidden else "perplexity"


def generation(facts: Facts, name: str) -> Generation | None:
    """How the candidate went on with prompts at the first setting of the benchmark."""
    rows = facts.bench.generations if facts.bench else ()
    return next((row for row in rows if row.candidate == name), None)


def headline(facts: Facts, variant: Variant) -> list[str]:
    """The parts of a verdict that are a language model's: `perplexity 41.2 (+0.3 % against fp32)`, tokens a second."""
    metrics = variant.test_metrics or variant.metrics
    name = _perplexity(facts)
    parts = [f"{fmt.metric_name(name)} {fmt.score(name, metrics.get(name))}{_against_fp32(facts, variant)}"]
    row = generation(facts, variant.name)
    return parts if row is None else [*parts, f"{fmt.quantity(row.tokens_per_second)} tokens/s"]


def figures(facts: Facts, variant: Variant, speed: Sequence[Figure | None] = ()) -> list[Figure | None]:
    """The key figures that only a language model has, with how fast it writes, or instead those of `speed`."""
    name = _perplexity(facts)
    split = "test" if variant.test_metrics else "validation"
    metrics = variant.test_metrics or variant.metrics
    scored = _scored(facts, split)
    details = [detail for detail in (_against_fp32(facts, variant).strip(" ()"),) if detail]
    others = [each for each in METRICS if each in metrics and each != name]
    details += [f"{fmt.metric_name(each)} {fmt.score(each, metrics[each])}" for each in others]
    details += [f"on {scored}"] if scored else []
    found = [
        Figure(f"{fmt.capital(split)} {fmt.metric_name(name)}", fmt.score(name, metrics.get(name)), tuple(details))
    ]
    if speed:
        return [*found, *speed]
    row = generation(facts, variant.name)
    if row is None:
        return [*found, Figure("Tokens a second", fmt.NOT_MEASURED)]
    interval = f"95 % interval {fmt.quantity(row.low)} to {fmt.quantity(row.high)}"
    rate = Figure("Tokens a second", fmt.quantity(row.tokens_per_second), (interval, setting(row)))
    return [*found, rate, *_time_figures(row)]


def setting(row: Generation) -> str:
    """A setting in words: `batch 1, 32 tokens after 128, 1 thread`."""
    return fmt.setting(row.batch, row.prompt, row.threads, new_tokens=row.new_tokens)


def _time_figures(row: Generation) -> list[Figure]:
    named = (
        ("Median time to the first token", row.first_token_ms, f"after a prompt of {row.prompt} tokens"),
        ("Median time of a further token", row.token_ms, ""),
    )
    return [
        Figure(name, f"{fmt.milliseconds(found['p50'])} ms", (detail,) if detail else ())
        for name, found, detail in named
        if "p50" in found
    ]


def _against_fp32(facts: Facts, variant: Variant) -> str:
    """How much the perplexity differs from that of fp32 on the same tokens: ` (+0.3 % against fp32)`."""
    fp32 = next((each for each in facts.variants if each.scheme == "fp32"), None)
    if fp32 is None or fp32.name == variant.name:
        return ""
    name = _perplexity(facts)
    ours, theirs = (each.test_metrics or each.metrics for each in (variant, fp32))
    if bool(variant.test_metrics) != bool(fp32.test_metrics) or not theirs.get(name) or name not in ours:
        return ""
    return f" ({fmt.relative(ours[name], theirs[name])} against fp32)"
