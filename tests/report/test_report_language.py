import dataclasses
import re

import pytest
import yaml

from tledge.report import bench_markdown, charts, html, language, markdown, model_card, summary
from tledge.report.sections import sections


def test_the_verdict_names_perplexity_and_tokens_a_second(language_facts):
    assert summary.verdict(language_facts) == (
        "int8_dynamic ships: perplexity 41.3 (+0.3 % against fp32), 137 tokens/s, 3.4 times as fast as torch eager, "
        "136.0 MB."
    )


def test_without_a_benchmark_the_speed_is_that_of_a_token(taken):
    assert "3.0 times as fast as fp32" in summary.verdict(taken)
    assert "tokens/s" not in summary.verdict(taken)


def test_fp32_is_not_held_against_itself(language_facts):
    variants = tuple(dataclasses.replace(v, chosen=v.name == "fp32") for v in language_facts.variants)
    assert "perplexity 41.1, " in summary.verdict(dataclasses.replace(language_facts, variants=variants))


def test_the_first_figures_are_of_predicting_and_writing(language_facts):
    found = {figure.name: figure for figure in summary.key_figures(language_facts)}
    assert list(found)[:5] == [
        "Test perplexity", "Tokens a second", "Median time to the first token", "Median time of a further token",
        "Against torch eager",
    ]  # fmt: skip
    assert found["Test perplexity"].details[0] == "+0.3 % against fp32"
    assert "on 12,800 of 15,360 tokens" in found["Test perplexity"].details
    assert found["Tokens a second"].details[1] == "batch 1, 32 tokens after 16, 1 thread"
    assert found["Same next token as fp32"].value == "0.951"


def test_every_variant_has_its_metrics_on_both_splits(language_facts):
    found = language.table(language_facts)
    assert found.header == ("perplexity", "loss, nats a token", "bits per byte", "next-token accuracy")
    assert [(block.split, block.tokens) for block in found.blocks] == [
        ("test", "12,800 of 15,360 tokens"),
        ("validation", "12,288 tokens"),
    ]
    assert found.blocks[0].rows[1] == ("int8_dynamic", ("41.3", "3.720", "1.210", "0.360"))
    assert found.blocks[1].rows[0][1][0] == "39.9"
    untested = tuple(dataclasses.replace(v, test_metrics={}) for v in language_facts.variants)
    only = language.table(dataclasses.replace(language_facts, variants=untested))
    assert [block.split for block in only.blocks] == ["validation"]
    assert language.table(dataclasses.replace(language_facts, variants=())) is None


def test_a_generation_table_has_times_rates_and_the_ratio(language_facts):
    [found] = [each for each in sections(language_facts.bench) if each.leads]
    row = dict(zip(found.header, found.rows[2], strict=True))
    assert row["candidate"] == "int8_dynamic"
    assert row["setting"] == "batch 1, 32 tokens after 16, 1 thread"
    assert row["first, ms (p50 / p90)"] == "14.2 / 14.9"
    assert row["further, ms (p50 / p90)"] == "7.10 / 7.81"
    assert row["tokens/s"] == "137 (134 to 138)"
    assert row["against torch eager"] == "3.4 times as fast (3.2 to 3.5)"
    assert found.rows[0][3] == "reference"
    assert found.notes[1:] == ("p95 needs 130 samples; there are 100.", "p99 needs 662 samples; there are 100.")


def test_one_token_after_a_past_is_called_so(language_facts, facts):
    latencies = facts.bench.latencies[:2]
    bench = dataclasses.replace(language_facts.bench, latencies=latencies, generations=())
    assert "| batch 1, one token after 32, 1 thread | `torch eager` |" in bench_markdown(bench)


def test_the_page_speaks_of_tokens(language_facts):
    page = html(language_facts)
    for shown in (
        '<a href="#texts">',
        "further down is better",
        "same token<br>as fp32",
        "&lt;img src=&#34;x&#34;",
        '<td class="number">15,360</td><td class="number">61,003</td><td class="number">120</td>',
        "<dd><bdi>1,400 train, 77 test</bdi></dd>",
        "<dd><bdi>3 documents</bdi></dd>",
        '<th scope="rowgroup" colspan="6">batch 1, 32 tokens after 128, 1 thread</th>',
    ):
        assert shown in page
    for absent in ("Confusion", "Labels, weakest first", "Wrong predictions", "conflicting labels", "rows of the test"):
        assert absent not in page
    assert page.index("32 tokens after 128") < page.index("Each loaded in a fresh process")


def test_a_model_that_was_taken_as_it_is_has_no_curve_to_miss(taken):
    page = html(taken)
    assert "Learning curve: not measured" not in page
    assert "<dt>trained</dt>" not in page
    assert "Latency: not measured in a benchmark." in page


def test_the_loss_is_drawn_once_and_its_lowest_is_the_best(language_facts):
    assert [plot.title for plot in charts.learning_curves(language_facts)] == ["Loss"]
    curve = tuple(
        dataclasses.replace(each, validation_metric=value)
        for each, value in zip(language_facts.training.curve, (60.0, 50, 45, 42, 41, 41.5, 43, 47), strict=True)
    )
    facts = dataclasses.replace(
        language_facts, metric="perplexity", training=dataclasses.replace(language_facts.training, curve=curve)
    )
    plot = charts.learning_curves(facts)[1]
    assert (plot.title, plot.best.text) == ("Perplexity", "best 41.000")


def test_markdown_has_metrics_samples_and_generations(language_facts):
    text = markdown(language_facts)
    for shown in (
        "### Texts\n\n| split | scored | variant | perplexity |",
        "| test | 12,800 of 15,360 tokens | `int8_dynamic` | 41.3 | 3.720 | 1.210 | 0.360 |",
        "<summary>How it goes on</summary>",
        "**Generation, one token after another**",
        "| `int8_dynamic` | batch 1, 32 tokens after 128, 1 thread | 109 (107 to 110) | 3.4 times as fast",
        "| one token |",
    ):
        assert shown in text
    assert "No latency was measured" not in text
    assert "### Errors" not in text


def test_the_card_shows_how_to_generate(language_facts):
    card = model_card(language_facts, path='a "bundle"', example="Once")
    assert yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card, re.DOTALL).group(1))["pipeline_tag"] == "text-generation"
    source = re.search(r"```python\n(.*?)```", card, re.DOTALL).group(1)
    compile(source, "usage", "exec")
    assert "tledge predict 'a \"bundle\"' Once --max-new-tokens 40 --stream" in card
    assert "- Tokens: 153,600 train, 12,288 validation, 15,360 test" in card
    assert "## Labels" not in card
    assert not any(sample.prompt in card for sample in language_facts.samples), "they are rows of the data"


@pytest.mark.parametrize("prompts", [[], [16]])
def test_a_benchmark_without_enough_generations_has_dashes(language_facts, prompts):
    rows = tuple(
        dataclasses.replace(row, first_token_ms={}, missing={"p50": 6, "p90": 64})
        for row in language_facts.bench.generations
        if not prompts or row.prompt in prompts
    )
    found = next(each for each in sections(dataclasses.replace(language_facts.bench, generations=rows)) if each.leads)
    assert found.rows[0][4:6] == ("–", "–")
    assert "p50 needs 6 samples; there are 100." in found.notes
