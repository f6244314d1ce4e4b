import dataclasses
import re

import pytest

from tledge.artifacts import Gain
from tledge.report import distillation, html, markdown, model_card, strips, summary
from tledge.report.charts import student_curves

UNSURE = "with one seed there is no interval, and chance may explain it."


def told(facts, gain, **changes):
    """The sentence about a gain."""
    found = dataclasses.replace(facts.distillation, gains=() if gain is None else (gain,))
    return distillation.gain_sentence(dataclasses.replace(facts, **changes), found)


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (Gain("accuracy", 0.012, 0.004, 0.02, True),
         "The teacher raised the accuracy by 0.012 (95 % interval 0.004 to 0.020, 3 seeds)."),
        (Gain("accuracy", 0.003, -0.01, 0.016, None),
         "No gain can be told from chance: with the teacher the accuracy is 0.003 higher (95 % interval -0.010 to "
         "+0.016, 3 seeds)."),
        (Gain("accuracy", -0.02, -0.03, -0.01, False),
         "The student alone was better by 0.020 in the accuracy (95 % interval 0.010 to 0.030, 3 seeds)."),
        (Gain("accuracy", 0.012),
         "With the teacher the accuracy is 0.012 higher: " + UNSURE),
        (Gain("accuracy", -0.012),
         "The student alone was better by 0.012 in the accuracy: " + UNSURE),
        (Gain("accuracy", 0.0),
         "With the teacher the accuracy is the same: " + UNSURE),
        (Gain("macro_f1", 0.5, 0.4, 0.6, True),
         "The student was not trained without the teacher, so what the teacher gave was not measured."),
        (None, "The student was not trained without the teacher, so what the teacher gave was not measured."),
    ],
)  # fmt: skip
def test_a_gain_is_told_as_sure_as_it_is(distilled, gain, said):
    assert told(distilled, gain) == said


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (Gain("perplexity", -1.25, -1.9, -0.61, True),
         "The teacher lowered the perplexity by 1.25 (95 % interval 0.610 to 1.90, 3 seeds)."),
        (Gain("perplexity", 1.25, 0.61, 1.9, False),
         "The student alone was better by 1.25 in the perplexity (95 % interval 0.610 to 1.90, 3 seeds)."),
        (Gain("perplexity", -0.2, -12.1, 11.7, None),
         "No gain can be told from chance: with the teacher the perplexity is 0.200 lower (95 % interval -12.1 to "
         "+11.7, 3 seeds)."),
        (Gain("perplexity", -0.2),
         "With the teacher the perplexity is 0.200 lower: " + UNSURE),
        (Gain("perplexity", 0.2),
         "The student alone was better by 0.200 in the perplexity: " + UNSURE),
    ],
)  # fmt: skip
def test_where_lower_is_better_lowering_is_the_gain(distilled, gain, said):
    assert told(distilled, gain, metric="perplexity", lower_is_better=True) == said


def test_only_a_clear_gain_raises_no_warning(distilled):
    assert not any("teacher" in text for text in summary.warnings(distilled))
    unsure = dataclasses.replace(distilled.distillation, gains=(Gain("accuracy", 0.003, -0.01, 0.016, None),))
    assert any("told from chance" in t for t in summary.warnings(dataclasses.replace(distilled, distillation=unsure)))


def test_the_table_has_means_intervals_seeds_and_what_is_kept(distilled):
    found = distillation.table(distilled)
    rows = {name: dict(zip(found.header, cells, strict=True)) for name, cells in found.rows}
    assert list(rows) == ["teacher", "student alone", "student with teacher"]
    student = rows["student with teacher"]
    assert (student["accuracy"], student["95 % interval"]) == ("0.952", "0.948 to 0.957")
    assert student["each seed"] == "0.950, 0.954, 0.954"
    assert student["of the teacher's"] == f"{100 * (0.9502 + 2 * 0.9535) / 3 / 0.9568:.1f} %"
    assert (student["parameters"], student["training"]) == ("17.4 million", "6 min 42 s")
    assert (rows["teacher"]["of the teacher's"], rows["teacher"]["training"]) == ("–", "1 min 23 s")
    assert found.others[0] == ("macro F1",)
    first = distillation.sentences(distilled)[0]
    assert first == "The student with teacher keeps 99.5 % of the teacher's accuracy with 77 % of its parameters."


def test_with_one_seed_there_are_no_intervals_to_show(distilled):
    contenders = tuple(
        dataclasses.replace(each, seeds=(42,), metrics=each.metrics[:1], low={}, high={})
        for each in distilled.distillation.contenders
    )
    facts = dataclasses.replace(
        distilled, distillation=dataclasses.replace(distilled.distillation, contenders=contenders)
    )
    assert distillation.table(facts).header == ("accuracy", "of the teacher's", "parameters", "training")
    assert all(strip.interval is None for strip in strips.contenders(facts).strips)


def test_where_lower_is_better_the_student_is_above_the_teacher(distilled):
    values = {"teacher": 40.0, "student alone": 47.0, "student with teacher": 43.0}
    contenders = tuple(
        dataclasses.replace(each, metrics=({"perplexity": values[each.name]},), mean={"perplexity": values[each.name]})
        for each in distilled.distillation.contenders
    )
    facts = dataclasses.replace(
        distilled,
        metric="perplexity",
        lower_is_better=True,
        distillation=dataclasses.replace(distilled.distillation, contenders=contenders),
    )
    found = distillation.table(facts)
    assert found.header[2] == "against the teacher"
    assert [cells[2] for _, cells in found.rows] == ["–", "+17.5 %", "+7.5 %"]
    assert distillation.sentences(facts)[0] == (
        "The perplexity of the student with teacher is 7.5 % above the teacher's, with 77 % of its parameters."
    )


def test_dots_and_intervals_lie_where_their_figures_say(distilled):
    plot = strips.contenders(distilled)
    assert [strip.name for strip in plot.strips] == ["teacher", "student alone", "student with teacher"]
    teacher, alone, taught = plot.strips
    assert plot.reference == teacher.mean == teacher.dots[0]
    assert alone.interval[0] < min(alone.dots) < alone.mean < max(alone.dots) < alone.interval[1] + 1
    assert alone.mean < taught.mean < teacher.mean
    everything = [x for strip in plot.strips for x in (*strip.dots, strip.mean, *(strip.interval or ()))]
    assert plot.frame.left < min(everything)
    assert max(everything) < plot.frame.right
    # Equal steps of the metric are equal steps of the axis.
    slope = (teacher.mean - taught.dots[0]) / (0.9568 - 0.9502)
    assert (teacher.mean - alone.dots[0]) / (0.9568 - 0.9435) == pytest.approx(slope, rel=0.02)


def test_a_plot_needs_two_finite_contenders(distilled):
    found = distilled.distillation
    alone = dataclasses.replace(found, contenders=found.contenders[:1])
    assert strips.contenders(dataclasses.replace(distilled, distillation=alone)) is None
    broken = dataclasses.replace(found.contenders[1], mean={"accuracy": float("nan")})
    two = dataclasses.replace(found, contenders=(found.contenders[0], broken))
    assert strips.contenders(dataclasses.replace(distilled, distillation=two)) is None


def test_both_students_are_in_one_plot(distilled):
    metric, taught, alone = student_curves(distilled)
    assert [series.name for series in metric.series] == ["with teacher", "alone"]
    assert (taught.title, alone.title) == ("Loss with the teacher", "Loss of the student alone")
    without = dataclasses.replace(distilled.distillation, alone_curve=())
    plots = student_curves(dataclasses.replace(distilled, distillation=without))
    assert [len(plot.series) for plot in plots] == [1, 2]


def test_the_page_shows_students_and_the_ladder(distilled):
    page = html(distilled)
    for shown in (
        '<a href="#distillation">',
        "layers 0, 2, 4 of the teacher &lt;made up&gt;",
        "17.4 million, 77 % of the teacher",
        "soft targets × 1, hard labels × 0.5, hidden cosine × 1",
        'class="badge good">chosen</span>: the best of 2',
        "distill.student.budget.train is 2",
        "Measured before training at batch 1, length 32, 1 thread.",
        "Made-up &lt;note&gt; of the students",
    ):
        assert shown in page
    section = page[page.index('<section id="distillation">') : page.index('<section id="errors">')]
    assert section.count('class="seed"') == 7
    assert section.count('class="bounds"') == 2


def test_markdown_and_card_show_the_table(distilled):
    for text, level in ((markdown(distilled), "### "), (model_card(distilled), "## ")):
        assert f"\n{level}Distillation\n" in text
        assert "| student with teacher | 0.952 | 0.948 to 0.957 | 0.950, 0.954, 0.954 | 99.5 % |" in text
        assert "**chosen**: the best of 2 |" in text
    card = model_card(distilled)
    assert "- Teacher: `package:made-up/model`" in card
    assert "- Student: layers 0, 2, 4 of the teacher &lt;made up>, 17.4 million parameters" in card


def test_the_verdict_names_the_teacher_as_what_it_is_compared_with(distilled):
    assert "7.9 times as fast as the teacher in torch eager" in summary.verdict(distilled)
    assert re.search(r"Against the teacher in torch eager", html(distilled))


def test_without_a_student_there_is_no_section(facts):
    assert distillation.table(facts) is None
    assert (distillation.sentences(facts), distillation.ladder(facts), student_curves(facts)) == ((), (), ())
    assert "Distillation" not in html(facts) + markdown(facts) + model_card(facts)
