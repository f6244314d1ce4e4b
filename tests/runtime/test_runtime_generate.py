"""Generating text: the same tokens as transformers, alone and in batches; ends, stop strings and streams."""

import dataclasses
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import decoder_graph
import language_bundle
import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models

from tledge import inputs
from tledge.bundle import Decoding, read_decoding
from tledge.errors import BundleError, InputError
from tledge.inputs.text import TextInput
from tledge.runtime import Generator, Predictor, open_session
from tledge.runtime.stop import StopStrings

KINDS = ("gpt2", "llama")
PROMPTS = ["The ferry", "In the morning the miller", "x", "Le garçon a mangé", "Two stone bridges lead over the river"]


def generator(kind="gpt2", **changes):
    graph = decoder_graph.decoder(kind)
    facts = dataclasses.replace(read_decoding(graph.checkpoint), **changes)
    return Generator(open_session(graph.path, threads=1), TextInput.load(graph.checkpoint), facts)


def in_transformers(kind, prompt_ids, max_new_tokens, eos=0):
    """The greedy tokens of transformers' own `generate`, without the end-of-text token."""
    import torch

    ids = torch.tensor([prompt_ids])
    settings = {"do_sample": False, "max_new_tokens": max_new_tokens, "eos_token_id": eos, "pad_token_id": 0}
    new = decoder_graph.decoder(kind).module.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    tokens = new[0, ids.shape[1] :].tolist()
    return tokens[: tokens.index(eos)] if eos in tokens else tokens


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_tokens_are_those_of_transformers_up_to_the_context(kind):
    opened = generator(kind)
    for prompt in PROMPTS:
        ids = opened.prompt_ids(prompt)
        got = opened.generate(prompt, max_new_tokens=10_000)
        assert list(got.token_ids) == in_transformers(kind, ids, 64 - len(ids))
        assert got.prompt_tokens == len(ids)
        assert got.tokens == len(got.token_ids)
        assert got.finish_reason == ("length" if got.tokens == 64 - len(ids) else "stop")


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gives_what_each_prompt_gives_alone(kind):
    opened = generator(kind)
    longest = max(len(opened.prompt_ids(prompt)) for prompt in PROMPTS)
    for new in (64 - longest, 10_000):  # as a padded batch, and where that has no room
        alone = [opened.generate(prompt, max_new_tokens=new) for prompt in PROMPTS]
        assert opened.generate(PROMPTS, max_new_tokens=new, batch_size=len(PROMPTS)) == alone
        assert opened.generate(iter(PROMPTS), max_new_tokens=new, batch_size=2) == alone


def test_rows_that_end_early_leave_the_others_alone():
    plain = generator("llama").generate("The ferry", max_new_tokens=20)
    end = plain.token_ids[5]
    opened = generator("llama", eos_token_ids=(end,))
    alone = [opened.generate(prompt, max_new_tokens=20) for prompt in PROMPTS]
    assert alone[0].token_ids == plain.token_ids[: plain.token_ids.index(end)]
    assert alone[0].finish_reason == "stop"
    assert len({each.tokens for each in alone}) > 1
    assert opened.generate(PROMPTS, max_new_tokens=20, batch_size=5) == alone
    ids = opened.prompt_ids("The ferry")
    assert list(alone[0].token_ids) == in_transformers("llama", ids, 20, eos=end)


def test_any_of_several_ends():
    plain = generator("llama").generate("The ferry", max_new_tokens=20)
    opened = generator("llama", eos_token_ids=(plain.token_ids[9], plain.token_ids[4]))
    assert opened.generate("The ferry", max_new_tokens=20).token_ids == plain.token_ids[:4]


def test_length_is_told_apart_from_an_end():
    opened = generator("llama")
    one = opened.generate("The ferry", max_new_tokens=1)
    assert (one.tokens, one.finish_reason) == (1, "length")


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_string_ends_the_text_before_it(kind):
    opened = generator(kind)
    whole = opened.generate("The ferry", max_new_tokens=30).text
    for stop in (whole[8:11], whole[15], whole[3:20]):
        got = opened.generate("The ferry", max_new_tokens=30, stop=stop)
        assert got.text == whole[: whole.index(stop)]
        assert got.finish_reason == "stop"
        assert opened.generate("The ferry", max_new_tokens=30, stop=["nowhere in it", stop]) == got
        assert "".join(opened.stream("The ferry", max_new_tokens=30, stop=stop)) == got.text
    assert opened.generate("The ferry", max_new_tokens=30, stop="nowhere in it").text == whole


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_is_the_text_in_pieces(kind):
    opened = generator(kind)
    for prompt in PROMPTS:
        for options in ({}, {"temperature": 1.5, "seed": 4}, {"stop": ["\x04", "gé"]}):
            pieces = list(opened.stream(prompt, max_new_tokens=40, **options))
            assert all(pieces)
            assert "".join(pieces) == opened.generate(prompt, max_new_tokens=40, **options).text


def test_a_stream_comes_as_it_is_made_and_may_be_left():
    opened = generator("llama")
    stream = opened.stream("The ferry", max_new_tokens=40)
    other = opened.stream("In the morning", max_new_tokens=40)  # two at once, turn by turn
    told = ["", ""]
    for _ in range(5):
        told = [text + next(each) for text, each in zip(told, (stream, other), strict=True)]
    del stream, other
    assert len(opened._idle) == 2
    whole = opened.generate(["The ferry", "In the morning"], max_new_tokens=40)
    assert all(
        each.text.startswith(text) and len(text) < len(each.text) for text, each in zip(told, whole, strict=True)
    )


def test_pieces_hold_whole_characters():
    """A model that says one byte a token: each character comes whole, and what is none comes at the end."""
    tokenizer = Tokenizer(models.BPE({f"<0x{i:02X}>": i for i in range(256)}, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    text = "a é 站 🍀👋🏽!"
    pieces = inputs.text.TextPieces(lambda ids: tokenizer.decode(list(ids)))
    told = [pieces.push(byte) for byte in text.encode()]
    assert [piece for piece in told if piece] == list(text)
    assert pieces.rest() == ""
    cut = inputs.text.TextPieces(lambda ids: tokenizer.decode(list(ids)))
    assert [cut.push(byte) for byte in "é🍀".encode()[:-1]] == ["", "é", "", "", ""]
    assert set(cut.rest()) == {"\ufffd"}


def test_pieces_keep_the_spaces_that_a_first_word_loses():
    words = ["▁the", "▁ferry", "s", "<end>", "▁leaves"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="s"))
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<end>"])
    pieces = inputs.text.TextPieces(lambda ids: tokenizer.decode(list(ids)))
    assert [pieces.push(token) for token in range(5)] == ["the", " ferry", "s", "", " leaves"]


@pytest.mark.parametrize(
    ("strings", "pieces", "told", "found"),
    [
        (["END"], ["one EN", "D two"], ["one ", ""], True),
        (["END"], ["one EN", "TRY"], ["one ", "ENTRY"], False),
        (["END"], ["EN", "EN", "D"], ["", "EN", ""], True),
        (["aab"], ["aa", "ab!"], ["", "a"], True),
        (["\n\n", "."], ["a\n", "b.", "c"], ["a", "\nb"], True),
        (["b", "abc"], ["xabc"], ["x"], True),
        ([], ["a", "b"], ["a", "b"], False),
    ],
)
def test_stop_strings_hold_back_what_may_be_one(strings, pieces, told, found):
    stop = StopStrings(strings)
    got = []
    for piece in pieces:
        got.append(stop.push(piece))
        if stop.found:
            break
    assert got == told
    assert stop.found == found


def test_what_was_held_back_comes_at_the_end():
    stop = StopStrings(["END"])
    assert stop.push("the EN") == "the "
    assert (stop.rest(), stop.rest()) == ("EN", "")
    opened = generator("llama")
    whole = opened.generate("The ferry", max_new_tokens=12)
    never = opened.generate("The ferry", max_new_tokens=12, stop=whole.text[-2:] + "never")
    assert never == whole


def test_drawing_follows_the_seed_alone():
    opened = generator("llama")
    settings = {"max_new_tokens": 12, "temperature": 1.0, "top_k": 50, "top_p": 0.95}
    first = opened.generate("The ferry", seed=1, **settings)
    assert opened.generate("The ferry", seed=1, **settings) == first
    assert opened.generate(["x", "The ferry"], seed=1, batch_size=2, **settings)[1].token_ids == first.token_ids
    drawn = {opened.generate("The ferry", seed=seed, **settings).token_ids for seed in range(5)}
    assert len(drawn) == 5
    greedy = opened.generate("The ferry", max_new_tokens=12)
    assert opened.generate("The ferry", seed=1, max_new_tokens=12, temperature=1, top_k=1) == greedy


def test_an_empty_prompt_begins_with_the_beginning():
    assert generator().generate("", max_new_tokens=3).prompt_tokens == 1
    assert generator(bos_token_id=7).prompt_ids("") == [7]
    assert generator(bos_token_id=None, eos_token_ids=(5, 6)).prompt_ids("") == [5]
    with pytest.raises(InputError, match="the prompt is empty, and this model has no token to begin a text with"):
        generator(bos_token_id=None, eos_token_ids=()).generate("")


def long_prompt(opened, tokens):
    """A text of exactly so many tokens."""
    text = "x" * tokens
    assert len(opened._encoder.encode_whole(text)) == tokens
    return text


def test_a_prompt_must_leave_room():
    opened = generator()
    assert opened.generate(long_prompt(opened, 63), max_new_tokens=9).tokens <= 1
    for tokens in (64, 65, 900):
        message = f"the prompt has {tokens} tokens; this model reads 64, .* at most 63"
        with pytest.raises(InputError, match=message) as error:
            opened.generate(long_prompt(opened, tokens))
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="prompt 1: the prompt has 64 tokens"):
        opened.generate(["x", long_prompt(opened, 64)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be 1 or more, got 0"),
        ({"batch_size": 0}, "batch_size must be 1 or more, got 0"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"stop": ""}, r"stop: expected texts that are not empty, got \[''\]"),
        ({"stop": ["a", ""]}, "stop: expected texts that are not empty"),
        ({"temperature": -1}, "temperature must be 0"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(InputError, match=message):
        generator().generate("x", **options)


def test_what_is_no_text_is_refused():
    with pytest.raises(InputError, match=r"expected a text \(str\), got int"):
        generator().generate([3])
    with pytest.raises(InputError, match="half a surrogate pair"):
        list(generator().stream("\ud800"))


def test_many_threads_share_one():
    opened = generator("llama")
    alone = [opened.generate(prompt, max_new_tokens=20) for prompt in PROMPTS]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda prompt: opened.generate(prompt, max_new_tokens=20), PROMPTS * 4))
    assert together == alone * 4
    assert len(opened._idle) <= 4


def test_special_tokens_that_the_tokenizer_adds_begin_the_prompt(tmp_path):
    """As of Llama, whose tokenizer puts its first token in front of every text."""
    folder = language_bundle.copy(tmp_path / "b")
    path = folder / "tokenizer.json"
    facts = json.loads(path.read_text())
    facts["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}},
    }
    path.write_text(json.dumps(facts))
    encoder = TextInput.load(folder)
    plain = TextInput.load(language_bundle.shared())
    assert encoder.encode_whole("The ferry") == [0, *plain.encode_whole("The ferry")]
    assert len(encoder.encode_whole("x" * 200)) == 201
    assert encoder.encode(["x" * 200])["input_ids"].shape == (1, 64)


def test_predictor_is_the_same_door():
    folder = language_bundle.shared()
    predictor = Predictor.load(folder, variant="fp32", threads=1)
    opened = Generator.load(folder, variant="fp32", threads=1)
    expected = opened.generate("The ferry", max_new_tokens=9)
    answer = predictor.predict("The ferry", max_new_tokens=9)
    assert answer == {"generated": expected.text, "tokens": 9, "finish_reason": "length"}
    json.dumps(answer)
    assert predictor.predict(PROMPTS, max_new_tokens=9, batch_size=5)[0] == answer
    assert (predictor.task, predictor.labels, predictor.generator.decoding) == (
        "causal_lm",
        (),
        Decoding(64, (0,), 0, 0),
    )
    assert list(predictor.predict_iter(iter(["The ferry"]), max_new_tokens=9)) == [answer]
    with pytest.raises(InputError, match="value 1: the prompt has 64 tokens"):
        predictor.predict(["x", "x" * 64], batch_size=1)


def test_a_bundle_that_does_not_generate(tiny_bundle):
    with pytest.raises(InputError, match="does not generate text: its task is text_classification"):
        Generator.load(tiny_bundle)
    with pytest.raises(InputError, match="max_new_tokens is for language models; the task of this bundle is text_cl"):
        Predictor.load(tiny_bundle).predict("good", max_new_tokens=5)


def test_unknown_variant_and_damage(tmp_path):
    folder = language_bundle.copy(tmp_path / "b")
    with pytest.raises(InputError, match="no variant 'int9'; it has fp32, int8; did you mean 'int8'"):
        Generator.load(folder, variant="int9")
    (folder / "onnx" / "model_int8.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"model_int8.onnx has 8 bytes, expected"):
        Generator.load(folder)


def test_a_graph_that_gives_no_numbers(tmp_path):
    folder = language_bundle.copy(tmp_path / "b")
    language_bundle.change_weights(folder / "onnx" / "model_int8.onnx", lambda array: np.full_like(array, np.nan))
    with pytest.raises(BundleError, match=r"the graph gave nan for token 0; check the bundle with: tledge verify"):
        Generator.load(folder).generate("The ferry")


def test_generating_needs_nothing_of_the_workstation():
    code = (
        "import sys; from tledge.runtime import Generator\n"
        "print(Generator.load(sys.argv[1], threads=1).generate('The ferry', max_new_tokens=3).tokens)\n"
        "print({'torch', 'transformers', 'onnx', 'pydantic'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(language_bundle.shared())]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["3", "set()"]
