import dataclasses
import re
from html.parser import HTMLParser

from tledge.artifacts import to_dict
from tledge.report import LabelScore, html

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; complains about tags that are not closed in order."""

    def __init__(self, source):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(source)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)


def _pictures(facts):
    return [each for each in (*(row.image for row in facts.wrong), facts.training.contact_sheet) if each]


def test_the_page_is_well_formed_and_needs_nothing_else(any_facts):
    source = html(any_facts)
    page = Page(source)
    assert source.startswith("<!DOCTYPE html>")
    assert "script" not in page.tags
    assert not {"link", "iframe", "object", "embed", "audio", "video"} & set(page.tags)
    pictures = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    assert len(pictures) == page.tags.count("img") == len(_pictures(any_facts))
    assert all(re.fullmatch(r"data:image/jpeg;base64,[A-Za-z0-9+/]+=*", picture) for picture in pictures)
    linking = ("href", "src", "srcset", "action", "xlink:href")
    links = [value for tag, name, value in page.attributes if name in linking and tag != "img"]
    assert all(link.startswith("#") for link in links)
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert {link[1:] for link in links} <= set(ids)
    assert len(ids) == len(set(ids))
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    style = source[source.index("<style>") : source.index("</style>")]
    assert not re.search(r"url\(|@import|https?:", style)


def test_given_figures_appear(facts):
    text = Page(html(facts)).text
    for shown in (
        "int8_dynamic ships: 0.954 accuracy on 301 test rows, 4.1 times as fast as torch eager, 23.3 MB.",
        "95 % interval 0.923 to 0.972",
        "most frequent label alone: 0.120",
        "of 187 validation rows",
        "118.7 MB",
        "fastest within the budget",
        "not faster than fp32 here",
        "0.98 to 1.07 of its time",
        "int8_dynamic is wrong on 14 of 301 rows",
        "p99 needs 662 samples; there are 100.",
        "batch 1, length 128, 1 thread",
        "214 on CPU",
        "Imaginary CPU @ 2.00GHz",
        "10 of 10 cases passed",
        "22.7 million",
        "5,775 (0.025 %)",
        "1 min 23 s",
        "1,234",
        "12 rows",
        "empty <text> 3 rows",
        "2 threads are made-up trouble.",
        "name: synthetic-commands # <made up>",
        "2026-01-02 03:14 UTC",
    ):
        assert shown in text
    assert "1.2 × 10⁻⁶" in text


def test_confusion_matrix_holds_every_count(facts):
    source = html(facts)
    matrix = source[source.index('<table class="matrix">') :]
    rows = re.findall(r"<tr><th scope=\"row\".*?</tr>", matrix[: matrix.index("</table>")], re.DOTALL)
    got = [[int(cell.replace("·", "0")) for cell in re.findall(r"<td[^>]*>([^<]*)</td>", row)] for row in rows]
    assert got == [list(row) for row in facts.confusion]


def test_user_text_is_escaped(facts):
    source = html(facts)
    assert "<script" not in source
    assert "<img" not in source
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in source
    assert "\x00" not in source
    text = Page(source).text
    for row in facts.wrong[:4]:
        assert row.text in text


def test_hostile_names_everywhere_are_escaped(facts):
    evil = '"><script>x</script>'
    variants = tuple(dataclasses.replace(v, name=evil, reason=evil, latency_at=evil) for v in facts.variants)
    bench = dataclasses.replace(facts.bench, notes=(evil,), machine=dataclasses.replace(facts.bench.machine, cpu=evil))
    training = dataclasses.replace(facts.training, backbone=evil)
    hostile = dataclasses.replace(facts, recipe=evil, task=evil, metric=evil, variants=variants, bench=bench)
    source = html(
        dataclasses.replace(hostile, recipe_yaml=evil, labels=(evil,) * 15, training=training, warnings=(evil,))
    )
    assert "script" not in Page(source).tags


def test_missing_things_are_said(minimal):
    text = Page(html(minimal)).text
    for said in (
        "There is no figure of test rows",
        "Median latency not measured",
        "Parity with torch not measured",
        "No variant has both a latency and a metric",
        "Wrong predictions on test rows: not measured.",
        "Confusion matrix Not measured.",
        "Latency: not measured in a benchmark.",
        "Memory and loading: not measured.",
        "Learning curve: not measured.",
        "Rows: not counted.",
        "The recipe's text is not at hand.",
    ):
        assert said in text


def test_several_labels_a_row_have_no_confusion_matrix(multilabel):
    page = Page(html(multilabel))
    assert "A row may have several labels, so there is no confusion matrix." in page.text
    assert "0.795 micro F1 on 301 test rows" in page.text
    assert "predicted no label" in page.text


def test_many_labels_give_pairs_and_a_folded_table(facts):
    labels = tuple(f"intent {i}" for i in range(40))
    confusion = tuple(tuple(3 * (i == j) + (j == (i + 1) % 40) for j in range(40)) for i in range(40))
    scores = tuple(LabelScore(label, 0.5, 0.5, i / 100, 4) for i, label in enumerate(labels))
    source = html(dataclasses.replace(facts, labels=labels, confusion=confusion, label_scores=scores))
    assert "40 labels are too many for a matrix" in source
    assert 'class="matrix"' not in source
    assert "The other 20 labels" in source


def test_weakest_labels_come_first(facts):
    source = html(facts)
    table = source[source.index("Labels, weakest first") :]
    names = re.findall(r'<th scope="row" class="name"><bdi>(.*?)</bdi>', table[: table.index("</table>")])
    assert names[0].startswith("a_label_long")
    assert names[-2:] == ["made_up_00", "made_up_03"]  # the last has no F1


def test_plots_have_a_description(facts):
    page = Page(html(facts))
    described = [value for tag, name, value in page.attributes if tag == "svg" and name == "aria-label"]
    assert len(described) == page.tags.count("svg") == 3
    assert "int8_dynamic: 2.78 ms, accuracy 0.954, 23.3 MB" in described[0]
    assert page.tags.count("figure") == 3


def test_a_percentile_that_some_rows_lack_is_said_in_its_cell(facts):
    first, *rest = facts.bench.latencies
    with_p95 = dataclasses.replace(first, percentiles_ms=first.percentiles_ms | {"p95": 12.5}, missing={"p99": 662})
    bench = dataclasses.replace(facts.bench, latencies=(with_p95, *rest))
    text = Page(html(dataclasses.replace(facts, bench=bench))).text
    assert "12.5" in text
    assert "needs 130 samples" in text


def test_the_page_does_not_change_the_facts(facts):
    before = to_dict(facts)
    assert html(facts) == html(facts)
    assert to_dict(facts) == before


def test_photos_that_were_wrong_are_shown_with_their_names(photos):
    page = Page(html(photos))
    shown = [value for tag, name, value in page.attributes if (tag, name) == ("img", "alt")]
    assert shown == [*(row.row for row in photos.wrong if row.image), "Some training images after augmentation"]
    assert "not at hand truth cracked <cell> , predicted whole cell (score 0.990) cells/0000" in page.text
    assert page.text.count("not at hand") == 1


def test_what_images_have_is_told(photos):
    text = Page(html(photos)).text
    for shown in (
        "Test ROC AUC 0.911 most frequent label alone: 0.500 random backbone: 0.850",
        "The pretrained weights gave +0.099 balanced accuracy over random ones (95 % interval +0.057 to +0.139).",
        "random backbone 0.752 0.803 0.760 0.850 0.420",
        "pretrained backbone 0.851 0.876 0.853 0.912 0.310",
        "The random one took 1 min 21 s.",
        "U8S8 minmax worst 4 0.849 1.6 times as fast 1.5 to 1.7 picked : the fastest within the budget",
        "U8S8 entropy none – not timed fails: <b>made-up</b> trouble | here",
        "It differs from torchvision's own by at most 0.5/255 of a pixel value, less than 0.01/255 on average.",
        "balanced accuracy on 420 validation rows is 0.851 with it and 0.852 with torchvision's.",
        "at most 2/255 from ours, and 0.12 % of them more than 1/255",
        "the shorter side resized to 256 pixels (bilinear); the middle 224 × 224 cut out",
        "Mirrored (both), turned by up to 10°, brightness, contrast and saturation changed by up to 0.2, 4 views",
        "312 tensors <matched> by order",
        "shorter side of images 300 to 512, median 300 pixels",
        "batch 1, 1 thread",
        "taken: 0.00063",
    ):
        assert shown in text
    for absent in ("length 32", "tokens ×", "longest input", "pooling", "padded", "None"):
        assert absent not in text.replace("random tokens", "")


def test_estimates_have_a_scatter_and_no_labels(regression):
    source = html(regression)
    text = Page(source).text
    for shown in (
        "int8_static ships: 0.708 R² on 525 test rows",
        "mean of the training rows alone: 0.000",
        "Test mean absolute error 97.2",
        "root mean squared error 123",
        "500 rows are drawn.",
        "true defect <per mille>",
        "95 % 199",
        "Largest errors, those first",
        "truth 1000 , estimate 480 (-520)",
        "train 0 to 1,000, median 333",
        "which chance may explain (95 % interval -0.010 to +0.013)",
    ):
        assert shown in text
    for absent in (
        "onfusion",
        "Labels, weakest",
        "same answer",
        "predicted",
        "Wrong predictions",
        "Rows of each label",
    ):
        assert absent not in text
    assert source.count('class="point"') == 500


def test_a_hundred_labels_have_no_matrix(flowers):
    text = Page(html(flowers)).text
    assert "102 labels are too many for a matrix" in text
    assert "The other 82 labels" in text
    pairs = text[text.index("Most often confused") : text.index("Confusion matrix")]
    assert pairs.count("made-up flower") == 40


def test_a_picture_that_is_no_picture_is_not_shown(photos):
    evil = 'https://example.com/x.png"><script>x</script>'
    wrong = (dataclasses.replace(photos.wrong[0], image=evil, row=evil),)
    training = dataclasses.replace(photos.training, contact_sheet=evil)
    page = Page(html(dataclasses.replace(photos, wrong=wrong, training=training)))
    assert not {"img", "script"} & set(page.tags)
