import dataclasses
import re

import pytest
import yaml

from tledge.report import bench_markdown, markdown, model_card
from tledge.report.text import code, escape, table


def _tables(text):
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        yield [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()]


def test_every_table_has_one_width(any_facts):
    for text in (markdown(any_facts), model_card(any_facts)):
        tables = list(_tables(text))
        assert tables
        for rows in tables:
            assert {len(row) for row in rows} == {len(rows[0])}


def test_given_figures_appear(facts):
    text = markdown(facts)
    assert text.startswith("## synthetic-commands: int8\\_dynamic ships: 0.954 accuracy on 301 test rows")
    for shown in (
        "95 % interval 0.923 to 0.972",
        "| **`int8_dynamic`** | 0.954 | 0.953 | 2.78 ms | 3.3 times as fast (3.1 to 3.4) | 23.3 MB | **ships**: ",
        "not chosen: not faster than fp32 here",
        "4.1 times as fast (3.9 to 4.3)",
        "p99 needs 662 samples; there are 100.",
        "14 of 301 rows of the test split wrong.",
        "`made_up_02` as `made_up_05` 7 of 29 times",
        "> - These figures are made up.",
    ):
        assert shown in text


def test_missing_things_are_said(minimal):
    text = markdown(minimal)
    assert "### Latency\n\nNot measured." in text
    assert "Wrong predictions on test rows: not measured." in text
    assert "Median latency: **not measured**" in text
    assert "| **`fp32`** | not measured | 0.955 | not measured |" in text


def test_user_text_cannot_leave_its_cell(facts):
    text = markdown(facts)
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text)  # what is left outside code spans
    assert "alert(1)" not in outside
    assert "\x00" not in text
    assert "\u202e" not in text
    assert re.findall(r"<(?!/?(?:details|summary)>)", outside) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a", "`a`"), ("`", "`` ` ``"), ("a``b", "```a``b```"), ("two\n lines\t", "`two lines`"), ("", "(empty)")],
)
def test_code_spans(text, expected):
    assert code(text) == expected


def test_long_text_is_cut():
    assert len(code("x" * 1000)) <= 162
    assert code("x" * 1000).endswith("…`")


def test_escaping():
    assert escape("a_b *c* <d> & [e] | `f`") == "a\\_b \\*c\\* &lt;d> &amp; \\[e\\] \\| \\`f\\`"
    assert escape("# no heading") == "\\# no heading"
    assert table(("a",), [("x | y",)]).splitlines()[-1] == "| x \\| y |"


def test_a_benchmark_alone(facts):
    text = bench_markdown(facts.bench)
    assert text.startswith("## Benchmark\n")
    assert "| batch 1, length 32, 1 thread | `torch eager` | 11.4 | 12.3 | reference | 100 |" in text
    assert "- 2 threads are made-up trouble." in text
    assert "Imaginary CPU" in text
    empty = dataclasses.replace(facts.bench, latencies=(), footprints=(), notes=(), created="")
    assert "No latency was measured." in bench_markdown(empty)


def _front_matter(card):
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card, re.DOTALL).group(1))


def test_front_matter_is_what_the_hub_reads(facts):
    found = _front_matter(model_card(facts))
    assert found["library_name"] == "onnx"
    assert found["pipeline_tag"] == "text-classification"
    assert {"onnx", "tledge", "int8_dynamic"} <= set(found["tags"])
    assert found["metrics"] == ["accuracy"]
    assert "license" not in found
    assert "base_model" not in found


def test_license_and_base_model_appear_when_given(facts):
    found = _front_matter(model_card(facts, license="apache-2.0", base_model='owner/na"me: #1'))
    assert found["license"] == "apache-2.0"
    assert found["base_model"] == 'owner/na"me: #1'
    assert _front_matter(model_card(facts, license="no"))["license"] == "no"


@pytest.mark.parametrize(
    ("name", "key"), [("facts", "label"), ("multilabel", "labels"), ("photos", "label"), ("regression", "value")]
)
def test_the_usage_example_is_valid_and_fits_the_task(name, key, request):
    card = model_card(request.getfixturevalue(name), path='a "bundle"', example='it\'s\n"so"')
    source = re.search(r"```python\n(.*?)```", card, re.DOTALL).group(1)
    compile(source, "usage", "exec")
    assert len(source.splitlines()) <= 10
    assert f'each["{key}"]' in source
    assert "from tledge import Predictor" in source


def test_the_card_holds_no_row_of_the_data(facts):
    card = model_card(facts)
    for row in facts.wrong:
        assert row.text not in card
        assert code(row.text) not in card
    assert "made-up command" not in card


def test_the_card_has_results_training_limits_and_labels(facts):
    card = model_card(facts)
    for shown in ("## Measured results", "## Usage", "## Training", "## Limits", "## Labels (15)", "22.7 million"):
        assert shown in card
    assert "| `made_up_00` | 20 | 0.990 | 0.980 | 0.985 |" in card
    assert "| `made_up_03` | 20 | - | 0.000 | - |" in card


def test_a_card_of_next_to_nothing(minimal):
    card = model_card(minimal)
    assert "## Labels (2)\n\n`a`, `b`" in card
    assert "not measured" in card
    assert "pipeline_tag" not in card


def test_images_in_markdown_are_named_rows(photos):
    text = markdown(photos)
    assert "data:image" not in text
    for shown in (
        "| `cells/0003xxx` | `whole cell` | `cracked <cell>` | 0.930 |",
        "### What transfer gave",
        "| random backbone | 0.752 | 0.803 | 0.760 | 0.850 | 0.420 |",
        "| U8S8 | minmax | worst 4 | 0.849 | 1.6 times as fast (1.5 to 1.7) | **picked**: the fastest within",
        "fails: &lt;b>made-up&lt;/b> trouble \\| here",
        "differs from torchvision's own by at most 0.5/255",
    ):
        assert shown in text
    assert text.count("What int8\\_static tried") == 1


def test_estimates_in_markdown(regression):
    text = markdown(regression)
    assert "R² 0.708, Pearson correlation 0.845, mean absolute error 97.2, root mean squared error 123." in text
    assert "5 % are at or below -198;" in text
    assert "| `cells/0000` | 1000 | 480 | -520 |" in text
    assert "Most often confused" not in text
    assert "not measured" in markdown(dataclasses.replace(regression, regression=None))


def test_the_card_of_an_image_model(photos):
    card = model_card(photos, path="my bundle")
    assert _front_matter(card)["pipeline_tag"] == "image-classification"
    assert _front_matter(card)["metrics"] == ["balanced_accuracy"]
    for shown in (
        'predictor.predict("photo.jpg")',
        "tledge predict 'my bundle' photo.jpg",
        "The model takes images of 224 × 224 pixels, height first. The shorter side resized to 256 pixels",
        "## What transfer gave",
        "- Augmentation: mirrored (both)",
    ):
        assert shown in card
    assert "data:image" not in card
    assert not any(row.row in card for row in photos.wrong)


def test_the_card_of_a_regression(regression):
    card = model_card(regression)
    assert 'print(each["value"])' in card
    assert "## Estimate\n\n`defect <per mille>`" in card
    assert "It learnt from numbers of 0 to 1,000, median 333" in card
    assert "It knows only the labels" not in card
