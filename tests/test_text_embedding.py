"""Vectors of texts from rows to a device: one run of a tiny model, and beside it what sentence-transformers gives."""

import json
import random
import subprocess
import sys

import numpy as np
import pytest
import tiny_project
import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer

from tledge import bundle, evidence, inputs, model, pipeline, report
from tledge.artifacts import read_json
from tledge.errors import DataError, InputError, ModelError, RecipeError
from tledge.recipe import load_recipe
from tledge.runtime import Predictor, verify

PROMPTS = {"query": "find ", "document": "in "}
ROWS = {
    "scored": {"text": 0, "text_pair": 1, "label": 2},
    "pairs": {"text": 0, "text_pair": 1},
    "triples": {"text": 0, "text_pair": 1, "negative": 3},
    "labelled": {"text": 0, "label": 4},
    "texts": {"text": 0},
}


def cells(count=60):
    """Two texts, a score of 0 to 5, a text that is not like them, and a name; alike are texts with the same words."""
    names = list(tiny_project.WORDS)
    for i in range(count):
        words, others = (tiny_project.WORDS[names[(i + k) % 3]] for k in (0, 1))
        a, b = chr(97 + i % 26), chr(97 + (i * 7 + i // 26) % 26)
        text = f"{words[0]} {words[1]} {a} {b}"
        alike = i % 2 == 0
        other = f"{words[2]} {words[1]} {b} {a}" if alike else f"{others[2]} {others[0]} {b} {a}"
        yield text, other, 4.0 + i % 5 / 4 if alike else i % 5 / 4, f"{others[0]} {b} {a} {a}", names[i % 3]


def write_rows(path, form, count=60):
    lines = [json.dumps({name: row[place] for name, place in ROWS[form].items()}) for row in cells(count)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def recipe(folder, form="scored", **changed):
    """A recipe in a folder beside its rows and a backbone."""
    write_rows(folder / "rows.jsonl", form)
    whole = {
        "name": "vectors",
        "task": "text_embedding",
        "data": {"train": "rows.jsonl", "validation": 0.2, "test": 0.3},
        "model": {"backbone": "backbone", "max_length": 16, "max_unknown": 1.0},
        "finetune": {"strategy": "full", "epochs": 1, "batch_size": 8, "report_to": []},
        "quantize": {"schemes": ["int8_dynamic"]},
        "budget": {"max_metric_drop": 0.9},
        "bench": {"length": [8], "percentile": 50, "duration_s": 0.5},
    }
    for section, keys in changed.items():
        whole[section] = whole[section] | keys if isinstance(keys, dict) else keys
    (folder / "recipe.yaml").write_text(json.dumps(whole), encoding="utf-8")
    return load_recipe(folder / "recipe.yaml")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbone") / "tiny"
    tiny_project.save_backbone(folder)
    return folder


@pytest.fixture(scope="module")
def run(backbone, tmp_path_factory):
    """A run on pairs with a score, up to its bundle."""
    folder = tmp_path_factory.mktemp("vectors")
    (folder / "backbone").symlink_to(backbone)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLEDGE_CACHE", str(folder / "cache"))
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.chdir(folder)
        asked = recipe(folder, model={"prompts": PROMPTS})
        return pipeline.run(asked, folder / "run", until="bundle")


@pytest.fixture
def project(backbone, tmp_path, monkeypatch):
    (tmp_path / "backbone").symlink_to(backbone)
    monkeypatch.setenv("TLEDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def generated(count=200):
    """Texts of words that the vocabulary knows, of letters, of signs that it does not know, and long ones."""
    rng = random.Random(11)
    words = [
        *tiny_project.FILLERS,
        *(word for of in tiny_project.WORDS.values() for word in of),
        "été",
        "水",
        "🍀",
        "x.y",
    ]
    texts = [" ".join(rng.choices(words, k=rng.randint(1, 40))) for _ in range(count - 2)]
    return [*texts, "", "A Word, in Capitals"]


def test_vectors_are_those_of_sentence_transformers(run):
    texts = generated()
    theirs = SentenceTransformer(str(run / "train" / "checkpoint"), device="cpu").encode(texts, batch_size=1)
    ours = np.array([each["embedding"] for each in Predictor.load(run / "bundle", variant="fp32").predict(texts)])
    assert ours.shape == (200, 32)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)


def test_prompts_are_those_of_sentence_transformers(run):
    texts, theirs = generated(20), SentenceTransformer(str(run / "train" / "checkpoint"), device="cpu")
    predictor = Predictor.load(run / "bundle", variant="fp32")
    assert predictor.prompts == PROMPTS
    for name in PROMPTS:
        ours = [each["embedding"] for each in predictor.predict(texts, prompt=name)]
        np.testing.assert_allclose(ours, theirs.encode(texts, prompt_name=name), atol=1e-5)
    assert predictor.predict("a song", prompt="query") != predictor.predict("a song")
    with pytest.raises(InputError, match="the model has no prompt 'querry'; it has 'query', 'document'; did you mean"):
        predictor.predict("a song", prompt="querry")


def test_the_bundle_is_whole_and_its_graph_gives_vectors(run):
    manifest = bundle.load(run / "bundle")
    assert (manifest.task, manifest.labels, manifest.input.kind) == ("text_embedding", (), "sentence")
    assert [spec.name for spec in manifest.outputs] == ["sentence_embedding"]
    assert {"spearman", "pearson"} == set(manifest.metrics)
    assert verify(run / "bundle").passed
    int8 = manifest.variant("int8_dynamic")
    assert int8.test_metric_drop.test == "paired bootstrap"
    assert int8.test_metric_drop.rows == 18
    parity = read_json(run / "export" / "parity.json")
    assert len(parity) > 8
    assert all(case["passed"] for case in parity)


def test_the_report_shows_cosines_over_scores_and_the_nearest_texts(run):
    facts = evidence.facts(load_recipe(run / "recipe.yaml"), run)
    assert len(facts.vectors.points) == 18
    assert {score for score, _ in facts.vectors.points} <= {row[2] for row in cells()}
    assert len(facts.vectors.neighbours) == 10
    for each in facts.vectors.neighbours:
        cosines = [cosine for _, cosine in each.nearest]
        assert cosines == sorted(cosines, reverse=True)
        assert each.text not in [text for text, _ in each.nearest]
    page, text = report.html(facts), report.markdown(facts)
    assert facts.vectors.neighbours[0].nearest[0][0] in page
    assert "Cosine over score" in page
    assert "Nearest texts" in text
    card = report.model_card(facts)
    assert 'answer["embedding"]' in card
    assert "--nearest" in card
    assert "## Labels" not in card


def test_a_device_needs_no_torch(run):
    code = (
        "import sys; from tledge import Predictor; "
        f"print(len(Predictor.load({str(run / 'bundle')!r}).predict('a song')['embedding'])); "
        "print({'torch', 'transformers', 'onnx', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["32", "set()"]


def test_predict_writes_an_array(run, tmp_path, capfd):
    target = tmp_path / "vectors.npy"
    done = tiny_project.call(capfd, "predict", run, "a song", "warm stove", "--npy", target)
    assert (done.code, done.out) == (0, "")
    assert "2 vectors of 32 numbers" in done.err
    predictor = Predictor.load(run / "bundle")
    expected = [each["embedding"] for each in predictor.predict(["a song", "warm stove"])]
    np.testing.assert_allclose(np.load(target), expected, atol=1e-6)
    wrong = tiny_project.call(capfd, "predict", run, "a song", "--npy", tmp_path / "vectors.txt")
    assert wrong.code != 0
    assert "expected a file that ends in .npy" in wrong.err


def test_predict_finds_the_nearest_lines(run, tmp_path, capfd):
    lines = ["a song tune", "", "warm stove", "the lamp is bright", "a song"]
    (tmp_path / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    done = tiny_project.call(capfd, "predict", run, "a song", "--nearest", tmp_path / "lines.txt", "--top-k", 3)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    near = found["nearest"]
    assert len(near) == 3
    predictor = Predictor.load(run / "bundle")
    query = np.array(predictor.predict("a song", prompt="query")["embedding"])
    texts = [line for line in lines if line]
    others = np.array([each["embedding"] for each in predictor.predict(texts, prompt="document")])
    cosines = others @ query / np.linalg.norm(others, axis=1) / np.linalg.norm(query)
    order = np.argsort(-cosines, kind="stable")[:3]
    assert [each["text"] for each in near] == [texts[i] for i in order]
    np.testing.assert_allclose([each["cosine"] for each in near], cosines[order], atol=1e-5)
    assert all(each["place"].endswith(f":{lines.index(each['text']) + 1}") for each in near)
    table = tmp_path / "table.csv"
    table.write_text("number,what\n1,a song\n2,warm stove\n", encoding="utf-8")
    of_table = tiny_project.call(capfd, "predict", run, "a song", "--nearest", table, "--column", "what")
    assert {each["text"] for each in json.loads(of_table.out)["nearest"]} == {"a song", "warm stove"}


@pytest.mark.parametrize(
    ("content", "told"), [("", "has no text"), ("\n \n", "has no text"), (None, "there is no such file")]
)
def test_a_file_without_texts_has_no_nearest(content, told, run, tmp_path, capfd):
    path = tmp_path / "lines.txt"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    done = tiny_project.call(capfd, "predict", run, "a song", "--nearest", path)
    assert done.code == InputError.exit_code
    assert told in done.err
    assert "Traceback" not in done.err


def test_predict_refuses_what_a_model_of_vectors_has_not(run, capfd):
    for arguments, told in (
        (("--prompt", "passage"), "--prompt passage: the model has query, document"),
        (("--top-k", "3"), "how many lines of --nearest"),
        (("--temperature", "1"), "only for language models"),
    ):
        done = tiny_project.call(capfd, "predict", run, "a song", *arguments)
        assert done.code == InputError.exit_code
        assert told in done.err


def test_a_text_that_is_cut_is_told(run, capfd):
    done = tiny_project.call(capfd, "predict", run, "a song " * 20, "a song", "the tune " * 30)
    assert "note: TEXT 1: the model reads 16 tokens; 26 more of this text are left out" in done.err
    assert "note: 2 of 3 texts are longer than the model reads" in done.err
    assert "cut" not in tiny_project.call(capfd, "predict", run, "a song").err


def test_the_gate_judges_a_file_of_pairs(run, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.jsonl", "scored", 40)
    (tmp_path / "budget.yaml").write_text("max_metric_drop: 0.99\nmin_metric: 0\nmachine: any\n")
    judged = tiny_project.call(
        capfd, "gate", run, "--budget", "budget.yaml", "--rows", "rows.jsonl", "--json", "verdict.json"
    )
    assert judged.code in (0, 11, 12, 13), judged.err
    verdict = read_json(tmp_path / "verdict.json")
    assert {"max_metric_drop", "min_metric"} <= {each["limit"] for each in verdict["findings"]}
    (tmp_path / "rows.jsonl").write_text('{"text": "a song", "text_pair": " ", "label": 3}\n')
    empty = tiny_project.call(capfd, "gate", run, "--budget", "budget.yaml", "--rows", "rows.jsonl")
    assert empty.code == DataError.exit_code
    assert "rows.jsonl:1: the column 'text_pair' holds ' '" in empty.err


@pytest.mark.parametrize(
    ("form", "strategy", "metric", "loss"),
    [
        ("pairs", "partial", "mrr", None),
        ("triples", "probe", "triplet_accuracy", "triplet"),
        ("labelled", "full", "nearest_accuracy", None),
        ("texts", "full", "spearman", None),
        ("scored", "probe", "spearman", "cosine_regression"),
        ("pairs", "none", "recall_at_5", None),
        ("pairs", "lora", "mrr", None),
    ],
)
def test_each_form_of_rows_trains_as_asked(form, strategy, metric, loss, project):
    keys = {"strategy": strategy, "loss": loss} | ({"unfreeze": 1} if strategy == "partial" else {})
    asked = recipe(project, form, finetune=keys, metric=metric, model={"prompts": PROMPTS})
    done = pipeline.run(asked, project / "run", until="train")
    trained = read_json(done / "train" / "train.json")
    assert len(trained["phases"]) == (strategy != "none")
    theirs = SentenceTransformer(str(done / "train" / "checkpoint"), device="cpu").encode(generated(5))
    assert theirs.shape == (5, 32)
    before = model.load_backbone("backbone").module.state_dict()
    after = model.load(done / "train" / "checkpoint").backbone.state_dict()
    moved = {name for name, each in after.items() if not torch.equal(each, before[name])}
    assert bool(moved) == (strategy in ("partial", "full", "lora"))
    if strategy == "partial":
        assert all(".layer.1." in name for name in moved)


@pytest.mark.slow
def test_documents_of_a_file_make_the_right_one_harder_to_find(project):
    lines = [json.dumps({"text_pair": f"{text} {i}"}) for i, (text, *_) in enumerate(cells(40))]
    lines += [lines[0], json.dumps({"text_pair": next(cells())[1]})]  # one again, and one that a row has
    (project / "more.jsonl").write_text("\n".join(lines))
    found = {}
    for name, keys in (("alone", {}), ("among", {"documents": "more.jsonl"})):
        asked = recipe(project, "pairs", data=keys, finetune={"strategy": "none"}, quantize={"schemes": []})
        said: list[str] = []
        done = pipeline.run(asked, project / name, until="quantize", say=said.append)
        found[name] = read_json(done / "quantize" / "variants.json")[0]["test_metrics"]
        assert any("41 documents to find theirs among" in line for line in said) == bool(keys)
    assert found["among"]["mrr"] < found["alone"]["mrr"]
    assert found["among"]["spearman"] == pytest.approx(found["alone"]["spearman"], abs=1e-6)


@pytest.mark.parametrize(
    ("form", "changed", "error", "told"),
    [
        ("scored", {"finetune": {"loss": "triplet"}}, RecipeError, "data.train has pairs with a score"),
        ("scored", {"metric": "mrr"}, RecipeError, "judged by one of spearman, pearson"),
        ("pairs", {"finetune": {"loss": "cosent"}}, RecipeError, "pairs of texts that are alike, which train with"),
        (
            "scored",
            {"finetune": {"loss": "cosine_regression", "score_range": [0, 4]}},
            DataError,
            "score outside of 0 to 4, such as",
        ),
        ("scored", {"model": {"dimensions": 33}}, ModelError, "got 33, but the vectors of .* have 32"),
        ("scored", {"model": {"pooling": "pooler"}}, ModelError, "set model.pooling to one of mean, cls, last"),
        ("scored", {"data": {"columns": {"text_pair": "other"}}}, DataError, "has no column 'other'"),
        ("scored", {"data": {"columns": {"texts": "text"}}}, DataError, "'texts' is no column of the task"),
        ("scored", {"data": {"documents": "rows.jsonl"}}, DataError, "in pairs with a score nothing is looked for"),
        ("pairs", {"data": {"documents": "nothing.jsonl"}}, DataError, "data.documents"),
    ],
)
def test_what_does_not_fit_the_rows_is_refused(form, changed, error, told, project):
    with pytest.raises(error, match=told):
        pipeline.run(recipe(project, form, **changed), project / "run", until="train")


@pytest.mark.parametrize(
    ("form", "row", "told"),
    [
        ("scored", {"text": "a", "text_pair": "", "label": 1}, "rows.jsonl:61: the column 'text_pair' is empty"),
        ("scored", {"text": "a", "text_pair": "b", "label": "much"}, "holds 'much', expected a finite number"),
        ("pairs", {"text": " ", "text_pair": "b"}, "rows.jsonl:61: the column 'text' is empty"),
        ("triples", {"text": "a", "text_pair": "b", "negative": None}, "the column 'negative' is empty"),
        ("triples", {"text": "a", "text_pair": "b"}, "there is no 'negative'"),
    ],
)
def test_a_broken_row_is_named(form, row, told, project):
    asked = recipe(project, form)
    with (project / "rows.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=told):
        pipeline.run(asked, project / "run", until="data")


def built(folder, backbone_folder, **settings):
    """A checkpoint of a backbone as it is, and its model."""
    found = model.load_backbone(str(backbone_folder))
    embedder = model.build_embedder(found, **{"pooling": "auto", "max_length": 16} | settings)
    embedder.save(folder, found)
    return embedder


@pytest.mark.parametrize(
    "settings",
    [
        {"pooling": "cls"},
        {"pooling": "last", "normalize": False},
        {"dimensions": 8},
        {"dimensions": 8, "normalize": False},
        {"projection": True},
        {"projection": True, "dimensions": 5},
    ],
)
def test_each_head_is_read_alike_by_both(settings, backbone, tmp_path):
    embedder = built(tmp_path / "first", backbone, **settings)
    if settings.get("projection"):
        with torch.no_grad():
            embedder.embedding_head.projection[0].weight.normal_(generator=torch.Generator().manual_seed(1))
        embedder.save(tmp_path / "first", model.load_backbone(str(backbone)))
    texts = generated(40)
    theirs = SentenceTransformer(str(tmp_path / "first"), device="cpu").encode(texts, batch_size=1)
    assert theirs.shape[1] == settings.get("dimensions", 32)
    # as a checkpoint, and as the backbone of another run
    again = built(tmp_path / "second", tmp_path / "first", normalize=settings.get("normalize", True))
    for loaded in (model.load(tmp_path / "first"), again, model.load(tmp_path / "second")):
        encoder = inputs.load("sentence", tmp_path / "first")
        with torch.no_grad():
            ours = [
                loaded(**{name: torch.from_numpy(each) for name, each in encoder.encode([text]).items()})
                for text in texts
            ]
        vectors = np.concatenate([each["sentence_embedding"].numpy() for each in ours])
        np.testing.assert_allclose(vectors, theirs, atol=1e-5)


def test_what_sentence_transformers_wrote_is_read(backbone, tmp_path):
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

    torch.manual_seed(3)
    written = SentenceTransformer(
        modules=[
            Transformer(str(backbone), max_seq_length=16),
            Pooling(32, "cls"),
            Dense(32, 12, bias=True, activation_function=torch.nn.Tanh()),
            Normalize(),
        ],
        prompts={"query": "find ", "document": "in "},
        default_prompt_name="query",
        device="cpu",
    )
    written.save(str(tmp_path / "theirs"))
    embedder = built(tmp_path / "ours", tmp_path / "theirs")
    assert embedder.pooling == "cls"
    encoder = inputs.load("sentence", tmp_path / "ours")
    texts = generated(20)
    with torch.no_grad():
        found = embedder(**{name: torch.from_numpy(each) for name, each in encoder.encode(texts).items()})
    np.testing.assert_allclose(found["sentence_embedding"].numpy(), written.encode(texts), atol=1e-5)


def test_a_part_that_is_not_known_is_refused(backbone, tmp_path):
    built(tmp_path / "first", backbone)
    modules = read_json(tmp_path / "first" / "modules.json")
    modules.append({"idx": 3, "name": "3", "path": "3_LayerNorm", "type": "sentence_transformers.models.LayerNorm"})
    (tmp_path / "first" / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="go through LayerNorm, which is not known here"):
        model.build_embedder(model.load_backbone(str(tmp_path / "first")), pooling="auto", max_length=16)


def test_a_damaged_dense_layer_is_told(backbone, tmp_path):
    built(tmp_path / "first", backbone, dimensions=4)
    save_file({"other": torch.zeros(1)}, str(tmp_path / "first" / "2_Dense" / "model.safetensors"))
    with pytest.raises(ModelError, match="cannot be read"):
        model.build_embedder(model.load_backbone(str(tmp_path / "first")), pooling="auto", max_length=16)


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        (("sentence1", "sentence2", "score"), {"text": "sentence1", "text_pair": "sentence2", "label": "score"}),
        (("query", "document"), {"text": "query", "text_pair": "document"}),
        (("anchor", "positive", "negative"), {"text": "anchor", "text_pair": "positive", "negative": "negative"}),
    ],
)
def test_init_writes_a_recipe_for_a_file_of_pairs(header, columns, project, capfd):
    places = [ROWS["scored" if "score" in header else "triples"][name] for name in columns]
    lines = [json.dumps({name: row[i] for name, i in zip(header, places, strict=True)}) for row in cells(30)]
    (project / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = tiny_project.call(capfd, "init", "pairs.jsonl", "--task", "text_embedding", "--backbone", "backbone")
    assert done.code == 0, done.err
    written = load_recipe(project / "recipe.yaml")
    assert (written.task, written.data.columns) == ("text_embedding", columns)
