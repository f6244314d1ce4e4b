"""On which processors a run's evidence was gathered, and whether its int8 graphs answer alike on others."""

from __future__ import annotations

from tledge import overflow
from tledge.artifacts import Exactness, Variant
from tledge.report import format as fmt
from tledge.report.facts import Facts

UNSEEN = "Other kinds of processor are unseen: verify the bundle there, and time it there."


def sentences(facts: Facts) -> tuple[str, ...]:
    """One sentence on where variants were scored and timed, and one on each with products of uint8 and int8."""
    places = {v.processor.kind: v.processor.cpu for v in facts.variants if v.processor is not None}
    where = " and ".join(f"{cpu} ({kind})" for kind, cpu in places.items())
    told = [f"Scored and timed on {where}. {UNSEEN}"] if where else []
    return (*told, *(_variant(facts, each) for each in facts.variants if each.overflow and each.overflow.products))


def warnings(facts: Facts) -> tuple[str, ...]:
    """The variant that ships, where it can answer otherwise on another processor."""
    return tuple(
        f"{each.name} can answer otherwise on x86 processors without VNNI: {overflow.told(each.overflow)}; "
        "set quantize.overflow_fix: pairs"
        for each in facts.variants
        if each.chosen and each.overflow is not None and each.overflow.possible
    )


def _variant(facts: Facts, variant: Variant) -> str:
    assert variant.overflow is not None
    told = f"{variant.name}: {overflow.told(variant.overflow)}"
    if variant.exact is None:
        return f"{told}."
    return f"{told}; {_exactness(variant.exact, 'block' if facts.language else 'row')}."


def _exactness(found: Exactness, row: str) -> str:
    rows = f"{fmt.count(found.rows)} validation {row}{'s' if found.rows != 1 else ''}"
    if not found.different:
        return f"its outputs on {rows} equal exact arithmetic to the last bit"
    answers = fmt.count(found.different_answers)
    return (
        f"its outputs on {fmt.count(found.different)} of {rows} differ from exact arithmetic here, by up to "
        f"{fmt.difference(found.largest)}, and {answers} answers"
    )
