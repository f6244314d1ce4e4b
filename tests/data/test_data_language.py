"""Texts to blocks of tokens: what is in them, which split they are in, what is left out, and what is refused."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file
from tiny_language import SENTENCES, tiny_tokenizer

from tledge.data import language, open_blocks, pack, tokenizer_digest
from tledge.errors import DataError
from tledge.evidence import _data
from tledge.recipe.schema import Data

TOKENIZER = tiny_tokenizer()
END = TOKENIZER.eos_token_id
BLOCK = 16
STORY = "\n".join(f"{number}. {SENTENCES[number % 5]} {SENTENCES[number % 3]}" for number in range(120))


def encode(text):
    return TOKENIZER.backend_tokenizer.encode(text, add_special_tokens=False).ids


def decode(ids):
    return TOKENIZER.decode(ids.tolist())


@pytest.fixture
def packed(tmp_path):
    """`packed(train="a.txt", ...)` packs files of the test's folder; texts given as `files` are written first."""

    def run(files=(), block=BLOCK, **settings):
        for name, content in dict(files).items():
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return pack(
            Data(**settings), TOKENIZER.backend_tokenizer, END, block=block, folder=tmp_path / "data", base=tmp_path
        )

    return run


@pytest.fixture
def complaint(packed):
    """The one line that is said about files and settings."""

    def run(*args, **settings):
        with pytest.raises(DataError) as caught:
            packed(*args, **settings)
        message = str(caught.value)
        assert "\n" not in message
        return message

    return run


def rows(texts):
    return "text\n" + "".join(f'"{text}"\n' for text in texts)


def documents(count, words=12):
    """Different texts of about `words` words."""
    rng = np.random.default_rng(1)
    pool = " ".join(SENTENCES).replace(",", "").split()
    return [f"{i} " + " ".join(pool[rng.integers(len(pool))] for _ in range(words)) for i in range(count)]


# Plain text


def test_a_text_file_is_cut_into_blocks_in_its_order(packed):
    blocks = packed({"story.txt": STORY}, train="story.txt", validation=0.25, test=10)
    whole = [*encode(STORY), END]
    n = len(whole) // BLOCK
    assert [len(getattr(blocks, name)) for name in ("train", "validation", "test")] == [
        n - 10 - round(n / 4), round(n / 4), 10,
    ]  # fmt: skip
    joined = np.concatenate([blocks.train, blocks.validation, blocks.test]).reshape(-1)
    assert joined.dtype == np.int32
    start = len(blocks.train) * BLOCK
    assert joined[:start].tolist() == whole[:start]
    assert joined[start:].tolist() == whole[-len(joined) + start :]  # the remainder is lost between training and others
    assert blocks.report["dropped_tokens"] == len(whole) - len(joined) < BLOCK
    assert blocks.block == BLOCK
    assert blocks.n_tokens == {"train": start, "validation": round(n / 4) * BLOCK, "test": 10 * BLOCK}
    assert blocks.calibration.shape == (0, BLOCK)


def test_bytes_are_those_of_the_predicted_tokens(packed):
    text = STORY.replace("é", "e").replace("ç", "c").replace("û", "u").replace("è", "e")
    blocks = packed({"story.txt": text}, train="story.txt", validation=5, test=5)
    for name in ("train", "validation", "test"):
        predicted = getattr(blocks, name)[:, 1:]
        n_bytes = sum(len(decode(row[row != END])) for row in predicted)
        assert blocks.report["bytes"][name] == n_bytes
        assert blocks.bytes_per_token[name] == pytest.approx(n_bytes / predicted.size)


def test_calibration_blocks_stand_between_training_and_validation(packed):
    blocks = packed({"story.md": STORY}, train="story.md", validation=4, test=4, calibration=3)
    whole = np.array([*encode(STORY), END])
    end = len(whole)
    for name, count in (("test", 4), ("validation", 4), ("calibration", 3)):
        assert getattr(blocks, name).reshape(-1).tolist() == whole[end - count * BLOCK : end].tolist()
        end -= count * BLOCK
    assert blocks.report["rows"]["calibration"] == 3


def test_unknown_words_of_wikitext_stay_text(packed):
    blocks = packed({"wiki.tokens": "= A <unk> title =\n" * 40}, train="wiki.tokens", validation=2, test=2)
    assert decode(blocks.train.reshape(-1)).startswith("= A <unk> title =\n= A <unk> title =\n")


def test_an_end_of_text_that_is_written_out_is_the_token(packed):
    blocks = packed({"a.txt": "The ferry<|endoftext|>The mill\n" * 40}, train="a.txt", validation=2, test=2)
    assert (blocks.train == END).mean() > 0.05


def test_line_ends_and_a_byte_order_mark(packed):
    content = b"\xef\xbb\xbf" + b"The ferry\r\nthe mill\n" * 60
    blocks = packed({"a.txt": content}, train="a.txt", validation=2, test=2)
    assert decode(blocks.train.reshape(-1)).startswith("The ferry\r\nthe mill\nThe ferry")


# Tables


def test_documents_of_a_table_are_joined_by_the_token_that_ends_them(packed):
    texts = documents(60)
    blocks = packed({"rows.csv": rows(texts)}, train="rows.csv", validation=0.2, test=0.2)
    stream = [token for text in texts for token in (*encode(text), END)]
    starts = [0, *(i + 1 for i, token in enumerate(stream) if token == END)]
    assert blocks.train.reshape(-1).tolist() == stream[: blocks.train.size]
    for name in ("validation", "test"):
        part = getattr(blocks, name).reshape(-1).tolist()
        found = next(start for start in starts if stream[start : start + len(part)] == part)
        assert decode(np.array(part[:3]))[0].isdigit(), found  # a part begins with a document
    assert blocks.report["documents"] == {"train": 60}
    assert blocks.report["end_of_text"] == END


def test_other_formats_give_the_same_blocks(packed, tmp_path):
    texts = documents(40)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"body": text, "n": 1}) + "\n" for text in texts))
    pq.write_table(pa.table({"body": texts}), tmp_path / "rows.parquet")
    with (tmp_path / "rows.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([["body"], *([text] for text in texts)])
    found = [
        packed(train=name, columns={"text": "body"}, validation=3, test=3)
        for name in ("rows.jsonl", "rows.parquet", "rows.tsv")
    ]
    for blocks in found[1:]:
        for name in ("train", "validation", "test"):
            np.testing.assert_array_equal(getattr(blocks, name), getattr(found[0], name))
        assert blocks.report["fingerprint"] == found[0].report["fingerprint"]


def test_a_long_document_is_divided_where_no_other_begins_nearby(packed):
    texts = [STORY.replace("\n", " "), *documents(2)]
    blocks = packed({"rows.csv": rows(texts)}, train="rows.csv", validation=9, test=9)
    stream = np.array([token for text in texts for token in (*encode(text), END)])
    test = stream[-9 * BLOCK :]
    assert blocks.test.reshape(-1).tolist() == test.tolist()
    assert blocks.validation.reshape(-1).tolist() == stream[-18 * BLOCK : -9 * BLOCK].tolist()


def test_equal_documents_are_taken_once(packed):
    texts = documents(30)
    doubled = [*texts[:10], texts[3], texts[4].replace(" ", "  "), *texts[10:]]
    once = packed({"rows.csv": rows(texts)}, train="rows.csv", validation=3, test=3)
    twice = packed({"rows.csv": rows(doubled)}, train="rows.csv", validation=3, test=3)
    assert (once.report["duplicates"], twice.report["duplicates"]) == (0, 2)
    assert twice.report["n_read"] == {"train": 32}
    np.testing.assert_array_equal(once.train, twice.train)


def test_broken_rows_are_named_or_counted(packed, complaint):
    texts = documents(30)
    lines = [json.dumps({"text": text}) for text in texts]
    lines[4:4] = ["{", json.dumps({"text": " "}), json.dumps({"text": 3}), json.dumps({"other": "x"})]
    content = "\n".join(lines)
    settings = {"train": "rows.jsonl", "validation": 3, "test": 3}
    assert complaint({"rows.jsonl": content}, **settings).startswith("rows.jsonl:5: no JSON at column 1")
    blocks = packed({"rows.jsonl": content}, on_error="skip", **settings)
    assert blocks.report["skipped"] == {"malformed line": 1, "empty text": 1, "no text": 1, "missing column": 1}
    assert blocks.report["skipped_examples"][1] == "rows.jsonl:6: the column 'text' is empty"
    assert blocks.report["documents"] == {"train": 30}
    clean = packed({"rows.jsonl": "\n".join(json.dumps({"text": text}) for text in texts)}, **settings)
    np.testing.assert_array_equal(blocks.train, clean.train)


# Sources of one's own for validation and test


def test_own_validation_and_test_texts(packed):
    files = {"a.txt": STORY, "v.txt": "The mill grinds. " * 30, "t.csv": rows(documents(9))}
    blocks = packed(files, train="a.txt", validation="v.txt", test="t.csv")
    for name, texts in (("train", [STORY]), ("validation", ["The mill grinds. " * 30]), ("test", documents(9))):
        stream = [token for text in texts for token in (*encode(text), END)]
        found = getattr(blocks, name).reshape(-1).tolist()
        assert found == stream[: len(stream) // BLOCK * BLOCK]
    assert blocks.report["sources"] == {"train": "a.txt", "validation": "v.txt", "test": "t.csv"}
    assert set(blocks.report["sha256"]) == {"train", "validation", "test"}


def test_a_text_in_two_files_is_refused_or_dropped_from_the_training_texts(packed, complaint):
    texts, held = documents(40), documents(50)[40:]
    files = {"rows.csv": rows([*texts[:5], held[2], *texts[5:]]), "test.csv": rows(held)}
    settings = {"train": "rows.csv", "test": "test.csv", "validation": 3}
    assert complaint(files, **settings) == (
        "rows.csv:7 has the text of test.csv:4; take it out of one file, or set data.on_overlap: drop to leave it out "
        "of the train texts"
    )
    dropped = packed(on_overlap="drop", **settings)
    assert dropped.report["overlap_dropped"] == 1
    clean = packed({"rows.csv": rows(texts)}, **settings)
    np.testing.assert_array_equal(dropped.train, clean.train)
    assert len(dropped.test) == len(clean.test)


def test_the_same_text_file_twice(packed, complaint):
    files = {"a.txt": STORY, "b.txt": STORY.replace("\n", "\r\n")}
    assert complaint(files, train="a.txt", test="b.txt").startswith("a.txt has the text of b.txt; take it out of one")
    assert complaint(files, train="a.txt", test="b.txt", on_overlap="drop") == (
        "no text of a.txt is left for train: each one is held out as validation or test text"
    )


def test_a_passage_of_the_test_text_inside_the_training_text(packed, complaint):
    unlike = " ".join(f"{word} {number}" for number, word in enumerate(" ".join(SENTENCES).split() * 8))
    leak = unlike[300:1100]
    train = f"{STORY}\n{leak}\n{STORY[::-1]}"
    settings = {"train": "a.txt", "test": "t.txt", "validation": 3}
    message = complaint({"a.txt": train, "t.txt": unlike}, **settings)
    assert message.startswith("a.txt has ")
    assert "passages of 64 tokens that t.txt has too, such as '" in message
    assert message.endswith("or set data.on_overlap: drop to leave the train blocks with them out")
    dropped = packed(on_overlap="drop", **settings)
    texts = [decode(row) for row in dropped.train]
    middle = leak[len(leak) // 2 :][:25]
    assert middle in decode(np.array(encode(train)))
    assert not any(middle in text for text in (*texts, "".join(texts)))
    clean = packed({"a.txt": f"{STORY}\n{STORY[::-1]}"}, **settings)
    lost = (len(encode(train)) + 1) // BLOCK - 3 - len(dropped.train)
    assert dropped.report["overlap_dropped"] == lost > 0
    assert dropped.report["rows"]["train"] == len(dropped.train) == dropped.n_tokens["train"] // BLOCK
    assert clean.report["overlap_dropped"] == 0
    assert len(dropped.test) == len(clean.test)


def test_a_training_text_that_is_all_in_the_test_text(complaint):
    files = {"a.txt": STORY, "t.txt": f"Before it. {STORY} And after it."}
    message = complaint(files, train="a.txt", test="t.txt", validation=2, on_overlap="drop", block=128)
    assert message.startswith("no block of a.txt is left for ")


# On disk


def test_the_file_is_an_ordinary_safetensors_file(packed, tmp_path):
    blocks = packed({"a.txt": STORY}, train="a.txt", calibration=2)
    loaded = load_file(tmp_path / "data" / "blocks.safetensors")
    again = open_blocks(tmp_path / "data")
    assert set(loaded) == {"train", "validation", "calibration", "test"}
    for name, array in loaded.items():
        np.testing.assert_array_equal(array, getattr(blocks, name))
        np.testing.assert_array_equal(array, getattr(again, name))
    again.train[0, 0] += 1  # a change stays in memory
    assert open_blocks(tmp_path / "data").train[0, 0] == loaded["train"][0, 0]
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"blocks.safetensors", "data.json"}


def test_the_report_reads_what_is_written(packed):
    report = packed({"a.txt": STORY}, train="a.txt").report
    facts = _data(dict(report), {"test": 64})
    assert facts.rows["train"] > facts.rows["test"] > facts.rows["validation"] > 0
    assert facts.scored_tokens == {"test": 64}
    assert report["labels"] == []
    assert report["tokenizer"] == tokenizer_digest(tiny_tokenizer().backend_tokenizer)


def test_the_tokenizers_digest_is_of_what_it_does_to_a_text():
    one, cut, other = (tiny_tokenizer().backend_tokenizer for _ in range(3))
    cut.enable_truncation(5)
    cut.enable_padding()
    other.add_tokens(["ferry boat"])
    assert tokenizer_digest(cut) == tokenizer_digest(one) != tokenizer_digest(other)


def test_large_arrays_are_written_in_parts(packed, monkeypatch):
    whole = packed({"a.txt": STORY}, train="a.txt").train.copy()
    monkeypatch.setattr(language.blocks, "STEP", 3 * BLOCK)
    np.testing.assert_array_equal(packed(train="a.txt").train, whole)


# What is refused


def test_too_few_tokens(complaint):
    n = len(encode("The ferry. " * 9)) + 1
    message = complaint({"a.txt": "The ferry. " * 9}, train="a.txt", block=64)
    assert message == (
        f"data.train: a.txt has {n} tokens, and 3 blocks of 64 (one for each split) need 192; give more text, or a "
        "smaller model.max_length"
    )
    message = complaint({"b.txt": STORY}, train="b.txt", test="a.txt", block=64)
    assert message.startswith(f"data.test: a.txt has {n} tokens, and a block of 64 need")
    message = complaint(train="b.txt", test=4000)
    assert message.startswith("data.test: 4000 of ")
    assert "no block of 16 would be left to train on" in message


def test_files_that_are_no_text(complaint, tmp_path):
    assert complaint({"a.txt": ""}, train="a.txt") == f"data.train: {tmp_path / 'a.txt'} is empty; expected text"
    assert complaint({"a.txt": " \n \n"}, train="a.txt").startswith("data.train: a.txt has ")
    message = complaint({"a.txt": b"The ferry\n\xff\xfe\x00\x01PNG"}, train="a.txt")
    assert message.startswith("a.txt:2: a NUL byte; is this a text file")
    message = complaint({"a.txt": "Der Müller\n".encode("latin-1") * 50}, train="a.txt")
    assert message.startswith("a.txt:1: the byte 0xfc is not utf-8; set data.encoding")
    assert complaint({"a.rtf": "text"}, train="a.rtf").startswith("data.train: 'a.rtf' is of no known format")
    assert "there is no file" in complaint(train="gone.txt")


def test_another_encoding_and_lines_that_are_left_out(packed):
    latin = packed({"a.txt": STORY.encode("latin-1")}, train="a.txt", encoding="latin-1")
    plain = packed({"a.txt": STORY}, train="a.txt")
    np.testing.assert_array_equal(latin.train, plain.train)
    broken = STORY.encode().replace(b"7. ", b"\xff\n7. ", 1)
    skipped = packed({"a.txt": broken}, train="a.txt", on_error="skip")
    assert skipped.report["skipped"] == {"undecodable text": 1}
    np.testing.assert_array_equal(skipped.train, plain.train)


def test_settings_that_a_language_model_has_no_use_for(complaint):
    files = {"rows.csv": rows(documents(30)), "a.txt": STORY}
    assert complaint(files, train="rows.csv", columns={"text": "txt"}) == (
        "rows.csv has no column 'txt'; its columns are 'text'; did you mean 'text'?; set data.columns.text"
    )
    assert complaint(train="a.txt", columns={"txt": "text"}) == (
        "data.columns: 'txt' is no column of the task; it has text; did you mean 'text'?"
    )
    for key, value in (("labels", ["a", "b"]), ("label_names", {"0": "a"}), ("unlabelled", "a.txt")):
        assert complaint(train="a.txt", **{key: value}).startswith(f"data.{key}: a language model learns from texts")


def test_nothing_that_can_be_read(complaint):
    assert complaint({"rows.csv": 'text\n" "\n'}, train="rows.csv", on_error="skip") == (
        "rows.csv has no usable text: 1 row is broken, such as rows.csv:2: the column 'text' is empty"
    )
