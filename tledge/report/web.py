"""The report as one HTML file that needs nothing else: no script, no font, no network; pictures are inside it."""

from __future__ import annotations

import functools
import unicodedata
from typing import TYPE_CHECKING, Any

from tledge.report import adaptation as adapted
from tledge.report import (
    benchmark,
    charts,
    images,
    language,
    processors,
    quantized,
    sections,
    strips,
    summary,
    transfer,
)
from tledge.report import distillation as learnt
from tledge.report import format as fmt
from tledge.report.facts import Facts, LabelScore

if TYPE_CHECKING:
    from jinja2 import Environment

_MATRIX_LABELS = 20
"""With more labels than this a confusion matrix is no longer readable."""
_SHOWN_LABELS = 20
_SPLITS = ("train", "validation", "calibration", "test")


def html(facts: Facts) -> str:
    """The report of a run as an HTML page; what was not measured is said to be so."""
    matrix = facts.confusion if len(facts.labels) <= _MATRIX_LABELS else ()
    page = (
        environment()
        .get_template("report.html")
        .render(
            facts=facts,
            verdict=summary.verdict(facts),
            figures=summary.key_figures(facts),
            warnings=summary.warnings(facts),
            processors=processors.sentences(facts),
            chosen=summary.chosen(facts),
            splits=[name for name in _SPLITS if name in facts.data.rows],
            curves=charts.learning_curves(facts),
            time_parts=summary.time_parts(facts),
            tradeoff=charts.tradeoff(facts),
            finders=charts.rate_finders(facts),
            scatter=charts.scatter(facts),
            cosines=charts.cosines(facts),
            precision_recall=charts.precision_recall(facts),
            cosine_shares=charts.cosine_shares(facts),
            residuals=summary.residuals(facts),
            test_metrics=summary.test_metrics(facts),
            targets=summary.targets(facts),
            transfer=transfer.table(facts),
            distillation=_distillation(facts),
            adaptation=_adaptation(facts),
            predictions=language.table(facts) if facts.language else None,
            generated=bool(facts.bench and facts.bench.generations),
            unit=summary.unit(facts),
            candidates=quantized.groups(facts),
            comparison=images.comparison(facts.preprocessing) if facts.preprocessing else (),
            image=images,
            has_length=any(case.sequence is not None for case in facts.parity),
            matrix=[(label, row, sum(row)) for label, row in zip(facts.labels, matrix, strict=False)],
            confusions=summary.confusions(facts, 5 if matrix else 20),
            label_scores=sorted(facts.label_scores, key=_weakest_first),
            shown_labels=_SHOWN_LABELS,
            latencies=benchmark.table(facts.bench) if facts.bench else None,
            footprints=benchmark.footprints(facts.bench) if facts.bench else ((), []),
            measured=sections.sections(facts.bench) if facts.bench else (),
            machine=benchmark.machine_facts(facts.bench.machine) if facts.bench else (),
            skipped=[(reason, fmt.rows(number)) for reason, number in facts.data.skipped.items()],
            documents=", ".join(f"{fmt.count(number)} {name}" for name, number in facts.data.documents.items()),
            stages=[(name, fmt.duration(seconds)) for name, seconds in facts.stage_seconds.items()],
            fmt=fmt,
            width=charts.WIDTH,
            height=charts.HEIGHT,
            frame=charts.FRAME,
            lines_right=charts.LINES_RIGHT,
        )
    )
    return printable(page)


def _distillation(facts: Facts) -> dict[str, Any] | None:
    """What the section about the student shows; `None` where nothing was distilled."""
    if facts.distillation is None:
        return None
    return {
        "sentences": learnt.sentences(facts),
        "table": learnt.table(facts),
        "facts": learnt.facts_of(facts),
        "strips": strips.contenders(facts),
        "curves": charts.student_curves(facts),
        "ladder": learnt.ladder(facts),
        "ladder_header": learnt.ladder_header(facts),
        "ladder_numbers": learnt.ladder_header(facts)[1:4] + learnt.ladder_header(facts)[-1:],
        "measured_at": learnt.measured_at(facts),
    }


def _adaptation(facts: Facts) -> dict[str, Any] | None:
    """What the section about another domain shows; `None` where nothing was adapted."""
    if facts.adaptation is None:
        return None
    return {
        "sentences": adapted.sentences(facts),
        "table": adapted.table(facts),
        "strips": strips.adapted(facts),
        "plots": charts.domains(facts),
    }


@functools.cache
def environment() -> Environment:
    """Where the templates come from; what they are given is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # the device install reports without it

    return Environment(
        loader=PackageLoader("tledge.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _weakest_first(score: LabelScore) -> tuple[bool, float]:
    return score.f1 is None, score.f1 or 0.0


def printable(page: str) -> str:
    """The page without control characters, which HTML does not allow; line breaks and tabs stay."""
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") else "\N{REPLACEMENT CHARACTER}" for c in page
    )
