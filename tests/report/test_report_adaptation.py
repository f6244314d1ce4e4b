import dataclasses

import pytest

from tledge.artifacts import Contender, Gain
from tledge.report import Adaptation, AdaptedRow, adaptation, html, markdown, model_card, summary


def row(name, *values, gain=None, p_value=None, **scores):
    mean = sum(values) / max(1, len(values))
    metrics = tuple({"accuracy": value} for value in values)
    of = Contender(name, 10, tuple(range(len(values))), metrics, {"accuracy": mean}) if values else None
    return AdaptedRow(name, name != "target_labels", 0.9, scores or {"information": mean}, of, gain, p_value)


def adapted(facts, *rows, **changes):
    points = (((0.0, 1.0), (1.0, 0.0)), ((2.0, 2.0), (3.0, 1.0)))
    found = Adaptation("auto", "coral", "information", 900, 200, rows, points, points)
    return dataclasses.replace(facts, adaptation=dataclasses.replace(found, **changes))


NONE = row("none", 0.60, 0.62)


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (Gain("accuracy", 0.05, 0.02, 0.08, True), "It gave +0.050 accuracy over source only on 200 rows that judge"),
        (Gain("accuracy", -0.05, -0.08, -0.02, False), "It hurts: -0.050 accuracy over source only"),
        (Gain("accuracy", 0.01, -0.02, 0.04, None), "No gain can be told from chance: +0.010 accuracy"),
        (Gain("accuracy", -0.01), "It did not help: -0.010 accuracy over source only on 200 rows that judge, with one"),
    ],
)
def test_a_method_that_does_not_help_is_said_not_to(facts, gain, said):
    found = adapted(facts, NONE, row("coral", 0.65, 0.67, gain=gain))
    assert said in " ".join(adaptation.sentences(found))
    assert any(said in each for each in summary.warnings(found)) == (gain.helps is not True)


def test_what_labels_would_have_chosen_stands_beside_what_was(facts):
    found = adapted(facts, row("none", 0.7), row("coral", 0.6, gain=Gain("accuracy", -0.1), p_value=0.01))
    assert "Labels would have chosen source only, with 0.700." in adaptation.sentences(found)
    same = adapted(facts, row("none", 0.5), row("coral", 0.6, gain=Gain("accuracy", 0.1), p_value=0.01))
    assert "Labels would have chosen the same." in adaptation.sentences(same)
    assert not any("source only" in each for each in summary.warnings(same))


def test_without_rows_that_judge_nothing_is_claimed(facts):
    found = adapted(facts, row("none", information=0.1), row("coral", information=0.2), n_judge=None)
    assert "whether it helped is not known: adapt.judge" in " ".join(adaptation.sentences(found))
    assert adaptation.table(found).header == ("domains told apart", "information, nats (chooses)")


def test_every_report_has_the_section(facts):
    found = adapted(
        facts, NONE, row("coral", 0.65, 0.67, gain=Gain("accuracy", 0.05, 0.02, 0.08, True), p_value=0.0001)
    )
    page = html(found)
    assert page.count('class="ring"') == 4
    for text in (page, markdown(found), model_card(found)):
        assert "Another domain" in text
        assert "below 0.001" in text
    assert "Another domain" not in markdown(facts)
