"""Decoding step by step: the buffers change no bit, and are fit for whatever comes next."""

from types import SimpleNamespace

import decoder_graph
import numpy as np
import pytest

from tledge import past, plugins
from tledge.errors import BundleError, InputError
from tledge.runtime import open_session, session_run
from tledge.runtime.decoder import Decoder, logits_run, prefill_feeds, step_feeds, tensor_specs

KINDS = ("gpt2", "llama")


def prompts(batch, sequence=12, seed=0):
    """Random tokens, and a mask whose rows after the first have ever more padding on the left."""
    ids = np.random.default_rng(seed).integers(1, 320, (batch, sequence))
    mask = np.ones_like(ids)
    for i in range(batch):
        mask[i, : 4 * i] = 0
    return ids, mask


def plain_steps(decoder, ids, mask, steps):
    """Logits of the last place and the tokens taken, by plain runs with arrays that are new each time."""
    inputs = decoder.graph.inputs
    outputs = decoder.run(past.feeds(inputs, ids, mask))
    for _ in range(steps):
        logits = outputs["logits"][:, -1]
        tokens = logits.argmax(axis=1)
        yield logits, tokens
        mask = np.concatenate([mask, np.ones((len(mask), 1), np.int64)], axis=1)
        outputs = decoder.run(past.feeds(inputs, tokens[:, None], mask, past.following(inputs, outputs)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_every_bit_is_that_of_plain_runs(kind, in_place, batch):
    graph = decoder_graph.decoder(kind)
    decoder = Decoder(open_session(graph.path, threads=1), context_length=64, in_place=in_place)
    # A short text first and a longer one, with more rows, after it, in buffers that held something else.
    for rows, length, steps in ((1, 3, 2), (batch, 12, 40), (1, 5, 50)):
        ids, mask = prompts(rows, length)
        got = decoder.prefill(ids, mask)
        kept = []
        for logits, tokens in plain_steps(graph, ids, mask, steps):
            assert (got == logits).all()
            kept.append((got, logits))
            got = decoder.step(tokens)
        assert decoder.length == length + steps
        assert all((mine == logits).all() for mine, logits in kept), "a result was written over later"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["fp16", "int8_dynamic", "int8_weight_only", "int4_weight_only"])
def test_graphs_of_all_schemes_run_in_buffers(kind, scheme, tmp_path):
    source = decoder_graph.decoder(kind)
    plugins.load("tledge.quantize.schemes", scheme).apply(source.path, tmp_path / "m.onnx")
    session = open_session(tmp_path / "m.onnx", threads=1)
    decoder = Decoder(session, context_length=64)
    assert decoder.inputs == source.graph.inputs
    ids, mask = prompts(2)
    got = decoder.prefill(ids, mask)
    for logits, tokens in plain_steps(SimpleNamespace(graph=source.graph, run=session_run(session)), ids, mask, 20):
        assert (got == logits).all()
        got = decoder.step(tokens)


def test_buffers_are_kept_and_grow():
    graph = decoder_graph.decoder("gpt2")
    decoder = Decoder(open_session(graph.path, threads=1), context_length=64)

    def addresses():
        return {buffer.ctypes.data for buffers in decoder._buffers for buffer in buffers}

    ids, mask = prompts(2, 10)
    decoder.prefill(ids, mask, room=20)
    decoder.step(np.array([1, 2]))
    before = addresses()
    assert len(before) == 2 * 4
    kept = [[*buffers] for buffers in decoder._buffers]  # else their memory may be given out again
    for _ in range(19):
        decoder.step(np.array([1, 2]))
    decoder.prefill(ids[:1], mask[:1])
    assert addresses() == before
    decoder.prefill(*prompts(3, 40))
    decoder.step(np.array([1, 2, 3]))
    assert not addresses() & before
    assert len(kept) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_prompt_is_read_in_parts(kind, monkeypatch):
    graph = decoder_graph.decoder(kind)
    ids, mask = prompts(3, 23)
    whole = Decoder(open_session(graph.path, threads=1), context_length=64)
    expected = [whole.prefill(ids, mask), whole.step(np.array([5, 6, 7]))]
    monkeypatch.setattr(past, "READ_AT_ONCE", 5)
    parts = Decoder(open_session(graph.path, threads=1), context_length=64)
    np.testing.assert_allclose(parts.prefill(ids, mask), expected[0], atol=1e-5)
    np.testing.assert_allclose(parts.step(np.array([5, 6, 7])), expected[1], atol=1e-5)
    assert parts._logits.size == 3 * 5 * 320


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_padded_batch_are_those_alone(kind):
    graph = decoder_graph.decoder(kind)
    decoder = Decoder(open_session(graph.path, threads=1), context_length=64)
    ids, mask = prompts(3)
    together = [decoder.prefill(ids, mask), decoder.step(np.array([5, 6, 7])), decoder.step(np.array([8, 9, 10]))]
    for row in range(3):
        alone = [decoder.prefill(ids[row : row + 1, 4 * row :])]
        alone += [decoder.step(np.array([5 + row])), decoder.step(np.array([8 + row]))]
        for one, many in zip(alone, together, strict=True):
            np.testing.assert_allclose(many[row], one[0], atol=1e-4)


def test_the_context_ends():
    decoder = Decoder.open(decoder_graph.decoder("gpt2").path, context_length=64, threads=1)
    with pytest.raises(InputError, match="context of 64 tokens is full"):
        decoder.prefill(np.ones((1, 65), np.int64))
    decoder.prefill(np.ones((1, 63), np.int64))
    decoder.step(np.array([1]))
    with pytest.raises(InputError, match="context of 64 tokens is full"):
        decoder.step(np.array([1]))
    assert decoder.length == 64


@pytest.mark.parametrize("shape", [(0, 3), (1, 0)])
def test_nothing_to_read(shape):
    decoder = Decoder.open(decoder_graph.decoder("gpt2").path, context_length=64, threads=1)
    with pytest.raises(InputError, match="needs at least one token"):
        decoder.prefill(np.ones(shape, np.int64))


def test_a_token_outside_the_vocabulary_is_one_error():
    decoder = Decoder.open(decoder_graph.decoder("gpt2").path, context_length=64, threads=1)
    with pytest.raises((InputError, BundleError), match="the graph could not run") as error:
        decoder.prefill(np.array([[1, 9999]]))
    assert "\n" not in str(error.value)


def test_a_classifier_is_no_decoder(tiny_bundle):
    with pytest.raises(BundleError, match=r"the graph is no decoder: expected .*, got input_ids, attention_mask"):
        Decoder.open(tiny_bundle / "onnx" / "model.onnx", context_length=64)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_session_says_is_what_the_export_said(kind):
    graph = decoder_graph.decoder(kind)
    session = open_session(graph.path, threads=1)
    assert tensor_specs(session.get_inputs()) == graph.graph.inputs
    assert tensor_specs(session.get_outputs()) == graph.graph.outputs


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_whole_texts_are_torchs(kind):
    import torch

    graph = decoder_graph.decoder(kind)
    ids, _ = prompts(2, 64)
    with torch.no_grad():
        expected = graph.module(torch.from_numpy(ids)).logits.numpy()
    found = logits_run(open_session(graph.path, threads=1))({"input_ids": ids})
    np.testing.assert_allclose(found["logits"], expected, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_feeds_for_latency(kind):
    graph = decoder_graph.decoder(kind)
    inputs, heads = graph.graph.inputs, {"gpt2": 2, "llama": 1}[kind]
    step = step_feeds(inputs, 2, 7, vocab_size=320, seed=1)
    assert list(step) == [spec.name for spec in inputs]
    assert step["input_ids"].shape == (2, 1)
    assert step["attention_mask"].tolist() == [[1] * 8] * 2
    assert step["position_ids"].tolist() == [[7], [7]]
    assert step["past_key_values.1.value"].shape == (2, heads, 7, 16)
    assert step["past_key_values.1.value"].std() > 0.5
    assert graph.run(step)["logits"].shape == (2, 1, 320)
    again = step_feeds(inputs, 2, 7, vocab_size=320, seed=1)
    assert all((step[name] == again[name]).all() for name in step)
    read = prefill_feeds(inputs, 2, 7, vocab_size=320)
    assert read["position_ids"].tolist() == [list(range(7))] * 2
    assert read["past_key_values.0.key"].shape == (2, heads, 0, 16)
    assert graph.run(read)["logits"].shape == (2, 7, 320)


def test_positions_count_from_the_first_token_that_is_no_padding():
    mask = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    assert past.positions(mask).tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 3, 4]]
