"""`tledge predict`, `verify`, `bench` and `inspect` on a tiny bundle, and the mistakes that a user makes with them."""

import bz2
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from test_cli_main import one_line
from tiny_project import call, tledge

FEW = ("--no-torch", "--for", "50", "--length", "8")
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def objects(text):
    return [json.loads(line) for line in text.splitlines()]


def test_predict(tiny_bundle, capfd):
    done = call(capfd, "predict", tiny_bundle, "good train", "bad", "--variant", "fp32", "--threads", "1")
    assert (done.code, done.err) == (0, "")
    first, second = objects(done.out)
    assert (first["text"], second["text"]) == ("good train", "bad")
    assert first["score"] == max(first["scores"].values())
    assert first["scores"] != second["scores"]


UNKNOWN = ("很好的火车", "😀👩‍👩‍👧", "a\u202eb\u0301", "--", "\x1b[31m")  # to a vocabulary of a few words


@pytest.mark.parametrize(
    "text",
    ["", "good " * 10_000, "很好的火车", "😀👩‍👩‍👧", "good\nbad", "\t", "a\u202eb\u0301", "--", "\x1b[31m"],
    ids=ascii,
)
def test_predict_odd_texts(text, tiny_bundle, capfd):
    done = call(capfd, "predict", tiny_bundle, "--", text)
    assert done.code == 0
    assert bool(re.fullmatch(r"note: TEXT 1: 100% of its tokens are unknown to .*\n", done.err)) == (text in UNKNOWN)
    [answer] = objects(done.out)
    assert answer["text"] == text
    assert answer["label"] in ("negative", "neutral", "positive")


def test_predict_a_nul_and_escapes_from_a_file(tiny_bundle, tmp_path, capfd):
    (tmp_path / "t.txt").write_bytes(b"\xef\xbb\xbfgood\x00bad\r\n\ntrain\n")
    done = call(capfd, "predict", tiny_bundle, "--file", tmp_path / "t.txt")
    assert done.code == 0
    assert "t.txt:1: 100% of its tokens" in done.err
    assert [each["text"] for each in objects(done.out)] == ["good\x00bad", "", "train"]


def test_predict_jsonl(tiny_bundle, tmp_path, capfd):
    lines = ['{"text": "good\\nbad", "id": 1}', "", '{"text": ""}']
    (tmp_path / "t.jsonl").write_text("\n".join(lines), encoding="utf-8")
    done = call(capfd, "predict", tiny_bundle, "first", "--file", tmp_path / "t.jsonl")
    assert [each["text"] for each in objects(done.out)] == ["first", "good\nbad", ""]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "no JSON at column"),
        ("[]", "expected a JSON object, got a list"),
        ("1", "expected a JSON object, got a number"),
        ("null", "expected a JSON object, got null"),
        ('{"txt": "x"}', 'expected a string in "text", got {"txt": "x"}'),
        ('{"text": 5}', 'expected a string in "text", got {"text": 5}'),
        ('{"text": null}', 'expected a string in "text"'),
        ('{"text": ["x"]}', 'expected a string in "text"'),
        ("[" * 100_000, "no JSON that can be read"),
    ],
)
def test_predict_bad_jsonl(line, told, tiny_bundle, tmp_path, capfd):
    (tmp_path / "t.jsonl").write_text('{"text": "good"}\n' + line + "\n", encoding="utf-8")
    done = call(capfd, "predict", tiny_bundle, "--file", tmp_path / "t.jsonl")
    one_line(done, 9, "t.jsonl:2: ", told)
    assert len(objects(done.out)) == 1, "what came before is answered"


def test_predict_a_lone_surrogate(tiny_bundle, tmp_path, capfd):
    (tmp_path / "t.jsonl").write_text('{"text": "\\ud800"}\n', encoding="utf-8")
    one_line(call(capfd, "predict", tiny_bundle, "--file", tmp_path / "t.jsonl"), 9, "t.jsonl:1: ", "surrogate")
    one_line(call(capfd, "predict", tiny_bundle, "good", "\udcff"), 9, "TEXT 2: ", "surrogate")


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["predict", "BUNDLE"], 9, ["nothing to predict", "--file"]),
        (["predict", "nowhere", "x"], 8, ["there is no nowhere"]),
        (["predict", "FOLDER", "x"], 8, ["is no bundle", "tledge run"]),
        (["predict", "BUNDLE", "x", "--variant", "int9"], 9, ["'int9'", "fp32, int8", "did you mean 'int8'"]),
        (["predict", "BUNDLE", "x", "--provider", "cup"], 9, ["provider 'cup'", "did you mean 'cpu'"]),
        (["predict", "BUNDLE", "x", "--threads", "0"], 2, ["--threads"]),
        (["predict", "BUNDLE", "--file", "nowhere.txt"], 9, ["nowhere.txt", "No such file"]),
        (["predict", "BUNDLE", "--file", "FOLDER"], 9, ["directory"]),
        (["bench", "BUNDLE", "--variant", "int9", *FEW], 9, ["'int9'", "fp32, int8", "did you mean 'int8'"]),
        (["bench", "BUNDLE", "--provider", "cup", *FEW], 9, ["provider 'cup'"]),
        (["bench", "BUNDLE", "--batch", "1,x"], 9, ["--batch", "'1,x'"]),
        (["bench", "BUNDLE", "--threads", "0"], 9, ["--threads", "'0'"]),
        (["bench", "BUNDLE", "--length", "999", "--no-torch"], 9, ["999"]),
        (["bench", "nowhere"], 8, ["there is no nowhere"]),
        (["verify", "nowhere"], 8, ["there is no nowhere"]),
        (["inspect", "BUNDLE", "--strategy", "full"], 2, ["--strategy", "backbone"]),
    ],
)
def test_mistakes(arguments, code, parts, tiny_bundle, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    places = {"BUNDLE": tiny_bundle, "FOLDER": tmp_path / "folder"}
    done = call(capfd, *(places.get(argument, argument) for argument in arguments))
    one_line(done, code, *parts)
    assert done.out == ""


REVIEWS = "number;review;rating\r\n1;good train, it was;5\r\n2;bad;1\r\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("t.csv", REVIEWS.encode(), id="semicolons"),
        pytest.param("t.csv", b"sep=;\r\n" + REVIEWS.encode(), id="a line sep=;"),
        pytest.param("t.csv", ("\ufeff" + REVIEWS.replace(";", "\t")).encode("utf-16-le"), id="utf-16 with tabs"),
        pytest.param("t.tsv.gz", gzip.compress(REVIEWS.replace(";", "\t").encode()), id="tsv, packed"),
        pytest.param("t.csv", bz2.compress(REVIEWS.encode()), id="packed by bzip2"),
        pytest.param("t.jsonl", b'{"number": 1, "review": "good train, it was"}\n{"review": "bad"}', id="json lines"),
    ],
)
def test_predict_the_column_of_a_table(name, content, tiny_bundle, tmp_path, capfd):
    (tmp_path / name).write_bytes(content)
    done = call(capfd, "predict", tiny_bundle, "--file", tmp_path / name)
    note = f"note: --file {tmp_path / name}: the column 'review' is read; another one: --column NAME\n"
    assert (done.code, done.err) == (0, note)
    assert [each["text"] for each in objects(done.out)] == ["good train, it was", "bad"]
    named = call(capfd, "predict", tiny_bundle, "--file", tmp_path / name, "--column", "review")
    assert (named.code, named.err, named.out) == (0, "", done.out)


def test_predict_a_table_whose_column_is_not_clear(tiny_bundle, tmp_path, capfd):
    path = tmp_path / "t.csv"
    path.write_text("title,review\nno good,it was bad\n", encoding="utf-8")
    predict = ("predict", tiny_bundle, "--file", path)
    one_line(call(capfd, *predict), 9, "'title', 'review'; say which of them holds the texts: --column NAME")
    one_line(call(capfd, *predict, "--column", "reviews"), 9, "no column 'reviews'", "did you mean 'review'")
    one_line(call(capfd, "predict", tiny_bundle, "x", "--column", "review"), 9, "--column review: only for a table")
    path.write_text("title,text\nno good,bad\nno good,bad,good\n", encoding="utf-8")
    done = call(capfd, *predict)
    one_line(done, 9, "t.csv:3: expected 2 cells as in the header, got 3")
    assert [each["text"] for each in objects(done.out)] == ["bad"]
    path.write_text("text\n", encoding="utf-8")
    one_line(call(capfd, *predict), 9, "has no row; expected a header and rows")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"text\n" + b"good\n" * 999)[:-9])
    one_line(call(capfd, *predict[:-1], tmp_path / "t.csv.gz"), 9, "t.csv.gz cannot be unpacked")


def test_predict_the_column_that_was_trained_on(tiny_bundle, tmp_path, capfd):
    shutil.copytree(tiny_bundle, tmp_path / "run" / "bundle")
    (tmp_path / "run" / "data").mkdir()
    (tmp_path / "run" / "data" / "data.json").write_text('{"columns": {"text": "body", "label": "mood"}}')
    (tmp_path / "t.csv").write_text("text,body\nthe title of it,good train\n", encoding="utf-8")
    done = call(capfd, "predict", tmp_path / "run", "--file", tmp_path / "t.csv")
    assert "the column 'body' is read" in done.err
    assert [each["text"] for each in objects(done.out)] == ["good train"]


def test_predict_counts_unknown_texts(tiny_bundle, tmp_path, capfd):
    (tmp_path / "t.txt").write_text("good\n很好的\n火车\n", encoding="utf-8")
    done = call(capfd, "predict", tiny_bundle, "--file", tmp_path / "t.txt")
    first, last = done.err.splitlines()
    assert first.startswith(f"note: {tmp_path / 't.txt'}:2: 100% of its tokens are unknown")
    assert last == "note: 2 of 3 texts are mostly unknown"


def test_predict_says_that_texts_are_empty(tiny_bundle, tmp_path, capfd):
    (tmp_path / "t.txt").write_text("good\n\n  \n", encoding="utf-8")
    done = call(capfd, "predict", tiny_bundle, "--file", tmp_path / "t.txt")
    assert len(objects(done.out)) == 3
    assert done.err.splitlines() == [
        f"note: {tmp_path / 't.txt'}:2: the text is empty, so that the answer means nothing",
        "note: 2 of 3 texts are empty",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("rows.json", "expected a SQuAD file"), ("rows.xlsx", "expected a table"), ("rows.pdf.gz", "expected a table")],
)
def test_predict_refuses_files_that_have_no_lines(name, expected, tiny_bundle, tmp_path, capfd):
    (tmp_path / name).write_text('[{"text": "good"}]')
    one_line(call(capfd, "predict", tiny_bundle, "--file", tmp_path / name), 9, name, expected)


def test_predict_not_utf8(tiny_bundle, tmp_path, capfd):
    (tmp_path / "t.txt").write_bytes(b"good\nb\xe4d\n")
    done = call(capfd, "predict", tiny_bundle, "--file", tmp_path / "t.txt")
    one_line(done, 9, "t.txt:2: the byte 0xe4 is not utf-8; save the file as UTF-8")
    piped = tledge("predict", tiny_bundle, "-", input="good\nb\udce4d\n")
    one_line(piped, 9, "standard input:2: is not UTF-8")
    assert len(objects(piped.stdout)) == 1


def test_a_broken_image_does_not_keep_the_others_from_their_answers(tiny_image_bundle, photos, monkeypatch, capfd):
    monkeypatch.chdir(photos / "more")
    (photos / "more" / "cut.jpg").write_bytes((photos / "red.jpg").read_bytes()[:-300])
    done = call(capfd, "predict", tiny_image_bundle, ".")
    one_line(done, 9, "cut.jpg is damaged", "(1 of 3 images have no answer)")
    blue, broken, green = objects(done.out)
    assert (blue["label"], green["label"]) == ("blue", "green")
    assert broken.keys() == {"image", "error"} and "is damaged" in broken["error"]
    strict = call(capfd, "predict", tiny_image_bundle, ".", "--strict")
    one_line(strict, 9, "cut.jpg is damaged")
    assert objects(strict.out) == [blue]


@pytest.mark.skipif(os.name == "nt", reason="Windows hands arguments over as Unicode")
@pytest.mark.parametrize("env", [ASCII, {"PYTHONIOENCODING": "latin-1"}], ids=["ascii", "latin-1"])
def test_utf8_whatever_the_locale(env, tiny_bundle):
    done = tledge("predict", tiny_bundle, "火车 😀", "-", input="很好\n", env=env, code=0)
    assert [each["text"] for each in objects(done.stdout)] == ["火车 😀", "很好"]
    assert "火车 😀" in done.stdout, "written as it is, not escaped"
    tledge("inspect", tiny_bundle, env=env, code=0)


def test_predict_streams(tiny_bundle):
    """The first answer comes while standard input is still open."""
    with subprocess.Popen(
        [sys.executable, "-m", "tledge", "predict", str(tiny_bundle), "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8",
    ) as process:  # fmt: skip
        timer = threading.Timer(60, process.kill)
        timer.start()
        process.stdin.write("good\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["text"] == "good"
        rest, _ = process.communicate("bad")
        timer.cancel()
    assert [each["text"] for each in objects(rest)] == ["bad"]
    assert process.returncode == 0


def test_a_closed_pipe_is_no_traceback(tiny_bundle):
    with subprocess.Popen(
        [sys.executable, "-m", "tledge", "predict", str(tiny_bundle), "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        process.stdin.write(b"good\n")
        process.stdin.flush()
        assert process.stdout.readline()
        process.stdout.close()
        process.stdin.write(b"bad\n" * 3000)
        process.stdin.close()
        assert process.stderr.read() == b""


def test_verify(tiny_bundle, capfd):
    done = call(capfd, "verify", tiny_bundle)
    assert (done.code, done.err) == (0, "")
    assert all(line.startswith("ok ") for line in done.out.splitlines())
    checks = json.loads(call(capfd, "verify", tiny_bundle, "--json").out)["checks"]
    assert len(checks) > 3
    assert all(check["passed"] for check in checks)


def answers(done):
    assert (done.code, done.err) == (0, "")
    return {each["image"]: each["label"] for each in objects(done.out)}


def test_predict_images(tiny_image_bundle, photos, monkeypatch, capfd):
    monkeypatch.chdir(photos)
    done = call(capfd, "predict", tiny_image_bundle, "red.jpg", photos / "more" / "blue.png", "--variant", "fp32")
    assert answers(done) == {"red.jpg": "red", str(photos / "more" / "blue.png"): "blue"}
    assert set(objects(done.out)[0]) == {"image", "label", "score", "scores"}
    blue, green = (str(Path("more") / name) for name in ("blue.png", "green.png"))
    assert answers(call(capfd, "predict", tiny_image_bundle, "more")) == {blue: "blue", green: "green"}
    everything = answers(call(capfd, "predict", tiny_image_bundle, photos))
    assert list(everything.values()) == ["blue", "green", "red"], "sorted; no hidden file, no other file"


def test_predict_images_listed_in_a_file(tiny_image_bundle, photos, capfd):
    (photos / "list.txt").write_text(f"red.jpg\n\n{photos / 'more' / 'blue.png'}\nmore\n", encoding="utf-8")
    done = call(capfd, "predict", tiny_image_bundle, "--file", photos / "list.txt")
    assert list(answers(done).values()) == ["red", "blue", "blue", "green"]
    (photos / "more" / "list.jsonl").write_text('{"image": "green.png", "id": 7}\n\n{"image": "../red.jpg"}\n')
    done = call(capfd, "predict", tiny_image_bundle, "--file", photos / "more" / "list.jsonl")
    assert answers(done) == {"green.png": "green", "../red.jpg": "red"}


def test_predict_images_from_standard_input(tiny_image_bundle, photos):
    done = tledge("predict", tiny_image_bundle, "-", input="red.jpg\nmore/green.png\n", cwd=photos, code=0)
    assert [each["label"] for each in objects(done.stdout)] == ["red", "green"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["nothing to predict", "VALUE"]),
        (["gone.jpg"], ["IMAGE 1: gone.jpg does not exist"]),
        (["red.jpg", "notes.txt"], ["IMAGE 2: notes.txt is no image"]),
        (["half.jpg"], ["IMAGE 1: half.jpg is damaged"]),
        (["empty"], ["IMAGE 1: the folder empty has no image in it"]),
        (["a\nb"], ["IMAGE 1: a b does not exist"]),
        (["--file", "list.txt"], ["list.txt:2: ", "gone.jpg does not exist"]),
        (["--file", "list.jsonl"], ['list.jsonl:2: expected a string in "image"', "text"]),
        (["--file", "odd.jsonl"], ["odd.jsonl:1: ", "cannot be the name of a file"]),
        (["--file", "gone.txt"], ["gone.txt cannot be read"]),
    ],
)
def test_predict_images_mistakes(arguments, parts, tiny_image_bundle, photos, monkeypatch, capfd):
    monkeypatch.chdir(photos)
    (photos / "half.jpg").write_bytes((photos / "red.jpg").read_bytes()[:-300])
    (photos / "empty").mkdir()
    (photos / "list.txt").write_text("red.jpg\ngone.jpg\n")
    (photos / "list.jsonl").write_text('{"image": "red.jpg"}\n{"text": "red.jpg"}\n')
    (photos / "odd.jsonl").write_text('{"image": "\\ud800.jpg"}\n')
    one_line(call(capfd, "predict", tiny_image_bundle, *arguments), 9, *parts)


@pytest.mark.skipif(os.name == "nt", reason="Windows hands arguments over as Unicode")
@pytest.mark.parametrize("env", [ASCII, {}], ids=["ascii", "utf-8"])
def test_predict_images_with_any_name(env, tiny_image_bundle, photos):
    shutil.copy(photos / "red.jpg", photos / "été 火.jpg")
    arguments = ["predict", tiny_image_bundle, "été 火.jpg", "-"]
    done = tledge(*arguments, input="été 火.jpg\n", cwd=photos, env=env, code=0)
    assert [each["image"] for each in objects(done.stdout)] == ["été 火.jpg"] * 2


def test_verify_and_bench_images(tiny_image_bundle, capfd):
    done = call(capfd, "verify", tiny_image_bundle)
    assert (done.code, done.err) == (0, "")
    assert "2 images give the stored pixels" in done.out
    options = ("--no-torch", "--for", "50")
    done = call(capfd, "bench", tiny_image_bundle, *options, "--batch", "1,2")
    assert (done.code, done.err) == (0, "")
    assert "length" not in done.out
    rows = json.loads(call(capfd, "bench", tiny_image_bundle, *options, "--json").out)["latencies"]
    assert {row["sequence"] for row in rows} == {None}
    one_line(call(capfd, "bench", tiny_image_bundle, "--length", "32"), 9, "--length", "images, which have no length")


def flip(bundle):
    path = bundle / "onnx" / "model_int8.onnx"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    return "onnx/model_int8.onnx"


def drop(bundle):
    (bundle / "tokenizer.json").unlink()
    return "tokenizer.json"


def add(bundle):
    (bundle / "extra.bin").write_bytes(b"x")
    return "extra.bin"


@pytest.mark.parametrize("damage", [flip, drop, add])
@pytest.mark.parametrize("json_option", [(), ("--json",)], ids=["text", "json"])
def test_verify_names_the_damaged_file(damage, json_option, tiny_bundle, capfd):
    name = damage(tiny_bundle)
    done = call(capfd, "verify", tiny_bundle, *json_option)
    one_line(done, 8, "does not verify", "files")
    assert name in done.out
    if json_option:
        assert not all(check["passed"] for check in json.loads(done.out)["checks"])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}'])
def test_damaged_manifest(text, tiny_bundle, capfd):
    (tiny_bundle / "bundle.json").write_text(text, encoding="utf-8")
    for verb in (["predict", tiny_bundle, "x"], ["inspect", tiny_bundle], ["bench", tiny_bundle, *FEW]):
        one_line(call(capfd, *verb), 8, "bundle.json")


def test_a_missing_graph(tiny_bundle, capfd):
    (tiny_bundle / "onnx" / "model_int8.onnx").unlink()
    one_line(call(capfd, "predict", tiny_bundle, "x"), 8, "model_int8.onnx", "missing")
    assert call(capfd, "predict", tiny_bundle, "x", "--variant", "fp32").code == 0


def test_bench(tiny_bundle, capfd):
    done = call(capfd, "bench", tiny_bundle, *FEW, "--batch", "1,2", "--variant", "int8", "--variant", "fp32")
    assert (done.code, done.err) == (0, "")
    for part in ("candidate", "fp32", "int8", "p50 ms", "onnxruntime", "peak memory"):
        assert part in done.out
    result = json.loads(call(capfd, "bench", tiny_bundle, *FEW, "--json").out)
    assert {row["candidate"] for row in result["latencies"]} == {"fp32", "int8"}
    markdown = call(capfd, "bench", tiny_bundle, *FEW, "--markdown").out
    assert "| --- |" in markdown


def test_bench_of_a_run_has_torch_eager(finished, capfd):
    done = call(capfd, "bench", finished.run, *FEW[1:], "--json")
    assert done.code == 0
    assert "torch eager" in {row["candidate"] for row in json.loads(done.out)["latencies"]}


def test_inspect_a_bundle(tiny_bundle, capfd):
    done = call(capfd, "inspect", tiny_bundle)
    assert done.code == 0
    for part in ("3 labels: negative, neutral, positive", "int8 (chosen)", "0.800", "small", "input_ids: int64"):
        assert part in done.out
    assert json.loads(call(capfd, "inspect", tiny_bundle, "--json").out)["task"] == "text_classification"


def test_inspect_fits_a_narrow_window(finished, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = call(capfd, "inspect", finished.run)
    table = [line for line in done.out.splitlines() if line.startswith(" ")]
    assert table
    assert max(map(len, table)) <= 200
    assert "test accuracy" in done.out


def test_inspect_a_run_without_a_bundle(run_copy, capfd):
    shutil.rmtree(run_copy / "bundle")
    one_line(call(capfd, "inspect", run_copy), 8, "no bundle", "tledge run")


@pytest.mark.parametrize(
    ("options", "trains"),
    [
        ((), {}),
        (("--unfreeze", "1"), {"encoder.layer.1"}),
        (("--strategy", "full"), {"embeddings", "encoder.layer.0", "encoder.layer.1"}),
        (("--unfreeze", "encoder.layer.0.*"), {"encoder.layer.0"}),
    ],
)
def test_inspect_a_backbone(options, trains, tiny_backbone, capfd):
    done = call(capfd, "inspect", tiny_backbone, *options, "--json")
    assert (done.code, done.err) == (0, "")
    facts = json.loads(done.out)
    assert facts["hidden_size"] == 32
    assert {b["name"] for b in facts["blocks"] if b["trainable"]} - {"pooler"} == set(trains)
    assert f"{facts['total']:,}" in call(capfd, "inspect", tiny_backbone, *options).out


@pytest.mark.parametrize(
    ("options", "code", "parts"),
    [
        (("--strategy", "half"), 2, ["--strategy", "'half'"]),
        (("--strategy", "partial"), 2, ["--unfreeze"]),
        (("--unfreeze", "0"), 2, ["--unfreeze"]),
        (("--unfreeze", "99"), 4, ["99", "2"]),
        (("--unfreeze", "nothing.*"), 4, ["nothing.*"]),
    ],
)
def test_inspect_mistakes(options, code, parts, tiny_backbone, capfd):
    one_line(call(capfd, "inspect", tiny_backbone, *options), code, *parts)


def test_inspect_no_backbone(tmp_path, capfd):
    one_line(call(capfd, "inspect", tmp_path), 4, str(tmp_path))
