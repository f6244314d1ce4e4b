"""What a student learnt from its teacher, as tables and sentences shared by Markdown and HTML."""

from __future__ import annotations

from dataclasses import dataclass

from tledge.artifacts import Contender, Gain, StudentCandidate
from tledge.report import format as fmt
from tledge.report.facts import Distillation, Facts

TEACHER, ALONE = "teacher", "student alone"


@dataclass(frozen=True, slots=True)
class Table:
    """Teacher and students: `rows` are names with a cell for each of `header`; `others` has their further metrics."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    others: tuple[tuple[str, ...], tuple[tuple[str, tuple[str, ...]], ...]] | None


@dataclass(frozen=True, slots=True)
class Step:
    """One candidate of the ladder, as cells for `ladder_header`; `reason` says why it was trained or not."""

    cells: tuple[str, ...]
    reason: str
    chosen: bool


def table(facts: Facts) -> Table | None:
    """The contenders beside each other on the test rows; `None` where nothing was distilled."""
    found = facts.distillation
    if found is None or not found.contenders:
        return None
    several = any(len(each.seeds) > 1 for each in found.contenders)
    bounded = any(facts.metric in each.low for each in found.contenders)
    header = (
        fmt.metric_name(facts.metric),
        *(("95 % interval",) if bounded else ()),
        *(("each seed",) if several else ()),
        "against the teacher" if facts.lower_is_better else "of the teacher's",
        "parameters",
        "training",
    )
    rows = tuple(
        (
            each.name,
            (
                fmt.score(facts.metric, each.mean.get(facts.metric)),
                *((_interval(each, facts.metric),) if bounded else ()),
                *((_values(each, facts.metric),) if several else ()),
                _kept(facts, each) or "–",
                fmt.parameters(each.parameters),
                _duration(facts, each),
            ),
        )
        for each in found.contenders
    )
    return Table(header, rows, _others(facts, found))


def sentences(facts: Facts) -> tuple[str, ...]:
    """What the student keeps of the teacher, and what the teacher gave it, as far as the figures tell."""
    found = facts.distillation
    if found is None:
        return ()
    return tuple(text for text in (_kept_sentence(facts, found), gain_sentence(facts, found)) if text)


def gain_sentence(facts: Facts, found: Distillation) -> str:
    """Whether the teacher helped in the metric, how much, and how sure that is."""
    gain = next((each for each in found.gains if each.metric == facts.metric), None)
    if gain is None:
        return "The student was not trained without the teacher, so what the teacher gave was not measured."
    name, by = f"the {fmt.metric_name(gain.metric)}", fmt.score(gain.metric, abs(gain.mean))
    seeds = max(len(each.seeds) for each in found.contenders) if found.contenders else 1
    if gain.low is None or gain.high is None:
        return f"{_of_one_seed(facts, gain, name, by)}: with one seed there is no interval, and chance may explain it."
    if gain.helps is None:
        direction = "higher" if gain.mean > 0 else "lower"
        low, high = (fmt.change(gain.metric, value) for value in (gain.low, gain.high))
        return (
            f"No gain can be told from chance: with the teacher {name} is {by} {direction} (95 % interval {low} to "
            f"{high}, {seeds} seeds)."
        )
    ends = sorted((abs(gain.low), abs(gain.high)))
    low, high = (fmt.score(gain.metric, value) for value in ends)
    interval = f"(95 % interval {low} to {high}, {seeds} seeds)"
    if gain.helps:
        return f"The teacher {'lowered' if facts.lower_is_better else 'raised'} {name} by {by} {interval}."
    return f"The student alone was better by {by} in {name} {interval}."


def helped(facts: Facts) -> bool:
    """Whether the teacher clearly helped in the metric."""
    gains = facts.distillation.gains if facts.distillation else ()
    return any(each.helps for each in gains if each.metric == facts.metric)


def facts_of(facts: Facts) -> tuple[tuple[str, str], ...]:
    """What the student is and how it learnt, as names and values; the values of what is not known are empty."""
    found = facts.distillation
    if found is None:
        return ()
    losses = ", ".join(f"{name.replace('_', ' ')} × {weight:g}" for name, weight in found.losses.items() if weight)
    blocks = ", ".join(map(str, found.layers))
    share = fmt.share(found.parameters, found.teacher_parameters) if found.teacher_parameters else ""
    return (
        ("student", found.student),
        ("blocks of the teacher's", "" if blocks in found.student else blocks),
        ("parameters", fmt.parameters(found.parameters) + (f", {share} of the teacher's" if share else "")),
        ("teacher", f"{facts.training.backbone}, {fmt.parameters(found.teacher_parameters)} parameters".lstrip(", ")),
        ("losses", losses),
        ("temperature", f"{found.temperature:g}" if found.temperature is not None else ""),
        ("learns from blocks", ", ".join(map(str, found.layer_map))),
        ("teacher's answers", "computed once for each row, unchanged (cached)" if found.teacher_cache else ""),
        ("seeds", ", ".join(map(str, _seeds(found)))),
        ("duration", fmt.duration(found.seconds) if found.seconds is not None else ""),
    )


def ladder_header(facts: Facts) -> tuple[str, ...]:
    """The names of the ladder's columns but the last, the reason."""
    metric = f"validation {fmt.metric_name(facts.metric)}"
    return ("candidate", "parameters", "size", "p95", "scheme", "fits", metric)


def measured_at(facts: Facts) -> str:
    """The setting at which the candidates of the ladder were measured, in words."""
    steps = facts.distillation.ladder if facts.distillation else ()
    return steps[0].measured_at if steps else ""


def ladder(facts: Facts) -> tuple[Step, ...]:
    """The candidates of a budget, largest first, with the metric of those that were trained."""
    found = facts.distillation
    return () if found is None else tuple(_step(facts, each) for each in found.ladder)


def _step(facts: Facts, each: StudentCandidate) -> Step:
    return Step(
        (
            each.name,
            fmt.parameters(each.parameters),
            fmt.megabytes(each.size_mb),
            f"{fmt.milliseconds(each.p95_ms)} ms",
            each.scheme,
            "yes" if each.fits else "no",
            fmt.score(facts.metric, each.metric) if each.trained else "not trained",
        ),
        each.reason,
        each.chosen,
    )


def taught(found: Distillation) -> Contender | None:
    """The student that had a teacher."""
    return next((each for each in found.contenders if each.name not in (TEACHER, ALONE)), None)


def _others(
    facts: Facts, found: Distillation
) -> tuple[tuple[str, ...], tuple[tuple[str, tuple[str, ...]], ...]] | None:
    """The means of the metrics beside the one that decides."""
    names = [name for name in found.contenders[0].mean if name != facts.metric]
    if not names:
        return None
    rows = tuple(
        (each.name, tuple(fmt.score(name, each.mean.get(name)) for name in names)) for each in found.contenders
    )
    return tuple(fmt.metric_name(name) for name in names), rows


def _duration(facts: Facts, each: Contender) -> str:
    """How long all trainings of a contender took together; the teacher's is that of the stage before."""
    seconds = facts.training.seconds if each.name == TEACHER else each.seconds
    return fmt.duration(seconds) if seconds else "–"


def _interval(each: Contender, metric: str) -> str:
    if metric not in each.low or metric not in each.high:
        return "–"
    return f"{fmt.score(metric, each.low[metric])} to {fmt.score(metric, each.high[metric])}"


def _values(each: Contender, metric: str) -> str:
    return ", ".join(fmt.score(metric, found[metric]) for found in each.metrics if metric in found)


def _kept(facts: Facts, each: Contender) -> str:
    """The share of the teacher's metric that a student keeps, or where lower is better how much more it has."""
    teacher = _mean(facts, TEACHER)
    value = each.mean.get(facts.metric)
    if each.name == TEACHER or teacher is None or teacher <= 0 or value is None:
        return ""
    return fmt.relative(value, teacher) if facts.lower_is_better else f"{100 * value / teacher:.1f} %"


def _kept_sentence(facts: Facts, found: Distillation) -> str:
    student = taught(found)
    kept = "" if student is None else _kept(facts, student)
    if student is None or not kept:
        return ""
    name = fmt.metric_name(facts.metric)
    size = ""
    if found.teacher_parameters:
        size = f" with {fmt.share(found.parameters, found.teacher_parameters)} of its parameters"
    if not facts.lower_is_better:
        return f"The {student.name} keeps {kept} of the teacher's {name}{size}."
    ours, theirs = student.mean[facts.metric], _mean(facts, TEACHER) or 0.0
    where = "above" if ours >= theirs else "below"
    return f"The {name} of the {student.name} is {kept.lstrip('+-')} {where} the teacher's,{size}."


def _of_one_seed(facts: Facts, gain: Gain, name: str, by: str) -> str:
    if not gain.mean:
        return f"With the teacher {name} is the same"
    if (gain.mean < 0) != facts.lower_is_better:
        return f"The student alone was better by {by} in {name}"
    return f"With the teacher {name} is {by} {'lower' if facts.lower_is_better else 'higher'}"


def _mean(facts: Facts, name: str) -> float | None:
    contenders = facts.distillation.contenders if facts.distillation else ()
    return next((each.mean.get(facts.metric) for each in contenders if each.name == name), None)


def _seeds(found: Distillation) -> tuple[int, ...]:
    student = taught(found)
    return student.seeds if student else ()
