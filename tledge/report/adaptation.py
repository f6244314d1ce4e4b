"""What an adaptation to another domain gave, as a table and sentences shared by Markdown and HTML."""

from __future__ import annotations

from dataclasses import dataclass

from tledge.report import format as fmt
from tledge.report.facts import Adaptation, AdaptedRow, Facts

NAMES = {
    "none": "source only",
    "adabn": "AdaBN",
    "coral": "CORAL",
    "dann": "DANN",
    "mmd": "MMD",
    "self_training": "self-training",
    "target_labels": "with target labels",
}
SCORES = {
    "source_validation": "source validation",
    "information": "information, nats",
    "importance": "weighted source loss",
}


@dataclass(frozen=True, slots=True)
class Table:
    """The methods beside each other: `rows` are names with a cell for each of `header`, and whether they ship."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...], bool], ...]


def table(facts: Facts) -> Table | None:
    """Every method that was trained; `None` where nothing was adapted."""
    found = facts.adaptation
    if found is None:
        return None
    judged = found.n_judge is not None
    paired = any(row.gain is not None and row.gain.low is not None for row in found.rows)
    scores = [name for name in SCORES if any(name in row.scores for row in found.rows)]
    header = (
        *((fmt.metric_name(facts.metric), "95 % interval", "over source only") if judged else ()),
        *(("p, first seed",) if judged else ()),
        "domains told apart",
        *(
            f"{SCORES[name]}{' (chooses)' if name == found.choose and found.method == 'auto' else ''}"
            for name in scores
        ),
    )
    rows = tuple(
        (
            name_of(row),
            (
                *(_judged(facts, row, paired=paired) if judged else ()),
                fmt.metric(row.apart),
                *(fmt.metric(row.scores[name]) if name in row.scores else "–" for name in scores),
            ),
            row.name == found.taken,
        )
        for row in found.rows
    )
    return Table(header, rows)


def name_of(row: AdaptedRow) -> str:
    """The method in words."""
    return NAMES.get(row.name, row.name)


def _judged(facts: Facts, row: AdaptedRow, *, paired: bool) -> tuple[str, ...]:
    metric, of = facts.metric, row.contender
    assert of is not None
    low, high = of.low.get(metric), of.high.get(metric)
    interval = "–" if low is None or high is None else f"{fmt.score(metric, low)} to {fmt.score(metric, high)}"
    gain = "–"
    if row.gain is not None:
        gain = fmt.change(metric, row.gain.mean)
        if paired and row.gain.low is not None and row.gain.high is not None:
            gain += f" ({fmt.change(metric, row.gain.low)} to {fmt.change(metric, row.gain.high)})"
    p = "–" if row.p_value is None else f"{row.p_value:.3f}" if row.p_value >= 0.001 else "below 0.001"
    return fmt.score(metric, of.mean.get(metric)), interval, gain, p


def sentences(facts: Facts) -> tuple[str, ...]:
    """What was taken and why, and whether it helped; a method that does not help is said not to."""
    found = facts.adaptation
    if found is None:
        return ()
    taken = NAMES.get(found.taken, found.taken)
    rows = f"{fmt.count(found.n_target)} target rows without labels"
    if found.method == "auto":
        by = SCORES[found.choose].partition(",")[0]
        first = f"{fmt.capital(taken)} ships: of what was trained with {rows} it has the best {by}."
    else:
        first = f"{fmt.capital(taken)} ships, as the recipe asks, with {rows}."
    return (first, *_helped(facts, found), *_oracle(facts, found))


def warnings(facts: Facts) -> tuple[str, ...]:
    """What is to be known first: that what ships was adapted, and is not clearly better for it."""
    found = facts.adaptation
    if found is None or found.taken == "none":
        return ()
    row = next(each for each in found.rows if each.name == found.taken)
    sure = row.gain is not None and (row.gain.helps or (row.gain.low is None and (row.p_value or 0) < 0.05))
    better = row.gain is not None and (row.gain.mean < 0) == facts.lower_is_better and row.gain.mean != 0
    return () if sure and better else _helped(facts, found)


def _helped(facts: Facts, found: Adaptation) -> tuple[str, ...]:
    if found.n_judge is None:
        return ("No labelled row of the other domain judged it, so whether it helped is not known: adapt.judge.",)
    row = next(each for each in found.rows if each.name == found.taken)
    if row.gain is None:
        return ()
    metric = fmt.metric_name(facts.metric)
    change = f"{fmt.change(facts.metric, row.gain.mean)} {metric} over source only"
    on = f"on {fmt.count(found.n_judge)} rows that judge"
    better = (row.gain.mean < 0) == facts.lower_is_better and row.gain.mean != 0
    if row.gain.low is None:
        p = "" if row.p_value is None else f", p {row.p_value:.3f} of the paired test"
        return (f"It {'gave' if better else 'did not help:'} {change} {on}, with one seed{p}.",)
    if row.gain.helps:
        return (f"It gave {change} {on}, over {_seeds(row)} seeds.",)
    if row.gain.helps is False:
        return (f"It hurts: {change} {on}, over {_seeds(row)} seeds.",)
    return (f"No gain can be told from chance: {change} {on}, over {_seeds(row)} seeds.",)


def _seeds(row: AdaptedRow) -> int:
    return len(row.contender.seeds) if row.contender else 1


def _oracle(facts: Facts, found: Adaptation) -> tuple[str, ...]:
    """Which method the labels would have chosen."""
    candidates = [row for row in found.rows if row.candidate and row.contender]
    if len(candidates) < 2:
        return ()
    sign = 1 if facts.lower_is_better else -1

    def value(row: AdaptedRow) -> float:
        assert row.contender is not None
        return sign * row.contender.mean.get(facts.metric, float("nan"))

    best = min(candidates, key=value)
    if best.name == found.taken:
        return ("Labels would have chosen the same.",)
    assert best.contender is not None
    score = fmt.score(facts.metric, best.contender.mean.get(facts.metric))
    return (f"Labels would have chosen {name_of(best)}, with {score}.",)
