"""Reports say where evidence was gathered, and whether int8 answers alike on other processors."""

import dataclasses

import pytest
from overflowing import AVX2

from tledge.artifacts import Exactness, Overflow
from tledge.report import html, markdown, model_card, processors, summary

SAFE, CLIPS = Overflow(37, 5_311_296), Overflow(37, 5_311_296, 85_373, ("a",), (), 37)


def with_int8(facts, **changes):
    variants = [
        dataclasses.replace(v, processor=AVX2, **(changes if v.name == "int8_dynamic" else {})) for v in facts.variants
    ]
    return dataclasses.replace(facts, variants=tuple(variants))


@pytest.mark.parametrize(
    ("exact", "told"),
    [
        (None, ""),
        (Exactness(656, 0, 0, 0.0), "; its outputs on 656 validation rows equal exact arithmetic to the last bit"),
        (
            Exactness(656, 640, 21, 1.24),
            "; its outputs on 640 of 656 validation rows differ from exact arithmetic here, by up to 1.2\xa0×\xa010⁰, "
            "and 21 answers",
        ),
    ],
)
def test_one_sentence_for_the_place_and_one_for_each_integer_graph(facts, exact, told):
    assert processors.sentences(with_int8(facts, overflow=SAFE, exact=exact)) == (
        "Scored and timed on a cpu (x86_64 AVX2 without VNNI). "
        "Other kinds of processor are unseen: verify the bundle there, and time it there.",
        f"int8_dynamic: none of 5,311,296 pairs of int8 weights can overflow{told}.",
    )


def test_what_is_not_known_is_not_told(facts):
    assert processors.sentences(facts) == ()


def test_every_report_has_the_sentences(facts):
    found = with_int8(facts, overflow=SAFE)
    for text in (markdown(found), model_card(found), html(found)):
        assert "none of 5,311,296 pairs of int8 weights can overflow" in text
        assert "Other kinds of processor are unseen" in text


def test_what_ships_and_can_overflow_is_a_warning(facts):
    assert next(v for v in facts.variants if v.chosen).name == "int8_dynamic"
    assert not processors.warnings(with_int8(facts, overflow=SAFE))
    (warning,) = processors.warnings(with_int8(facts, overflow=CLIPS))
    assert warning in summary.warnings(with_int8(facts, overflow=CLIPS))
    assert warning == (
        "int8_dynamic can answer otherwise on x86 processors without VNNI: 85,373 of 5,311,296 pairs of int8 weights "
        "can overflow, in 37 layers; set quantize.overflow_fix: pairs"
    )
