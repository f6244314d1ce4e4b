"""Scores of language models against torch and against sums done by hand."""

import math

import numpy as np
import pytest
import torch
from tiny_language import tiny_gpt2
from torch.nn import functional as F

from tledge.evaluate import score
from tledge.stages.rows.blocks import BlockInput
from tledge.tasks import causal_lm

BLOCKS = np.random.default_rng(3).integers(0, 320, size=(5, 12), dtype=np.int32)


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return tiny_gpt2()


def run_of(model, seen=None):
    def run(feeds):
        ids = feeds["input_ids"]
        assert ids.dtype == np.int64
        if seen is not None:
            seen.append(ids.shape)
        with torch.inference_mode():
            return {"logits": model(torch.from_numpy(ids)).logits.numpy()}

    return run


def scored(run, blocks, rate=1.0, **options):
    return score(run, BlockInput(rate), blocks, blocks, causal_lm, **options)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_the_loss_is_torchs_own_whatever_the_batch(model, batch_size):
    seen = []
    found = scored(run_of(model, seen), BLOCKS, 2.5, batch_size=batch_size)
    ids = torch.from_numpy(BLOCKS.astype(np.int64))
    with torch.inference_mode():
        expected = float(model(ids, labels=ids).loss)
        predicted = model(ids).logits[:, :-1].argmax(-1)
    assert found.metrics["loss"] == pytest.approx(expected, rel=1e-6)
    assert found.metrics["perplexity"] == pytest.approx(math.exp(expected), rel=1e-6)
    assert found.metrics["next_token_accuracy"] == pytest.approx(float((predicted == ids[:, 1:]).float().mean()))
    np.testing.assert_array_equal(causal_lm.predictions(found.records), predicted.numpy())
    assert seen[0] == (batch_size, 12)
    assert sum(rows for rows, _ in seen) == 5


def test_bits_per_byte_by_hand():
    text = "héé"  # 1 + 2 + 2 bytes
    n_bytes, losses = len(text.encode()), [1.0, 2.0, 0.5]
    found = causal_lm.metrics_of(sum(losses) / 3, bytes_per_token=n_bytes / 3)
    assert found["bits_per_byte"] == pytest.approx(sum(losses) / math.log(2) / 5)
    assert "bits_per_byte" not in causal_lm.metrics_of(1.0)


def test_a_uniform_model_needs_the_bits_of_its_vocabulary():
    found = scored(lambda feeds: {"logits": np.zeros((*feeds["input_ids"].shape, 256), np.float32)}, BLOCKS % 256)
    assert found.metrics["perplexity"] == pytest.approx(256)
    assert found.metrics["bits_per_byte"] == pytest.approx(8)


@pytest.mark.parametrize("chunk", [1, 7 * 320, 10**9])
def test_chunks_change_nothing(monkeypatch, chunk):
    monkeypatch.setattr(causal_lm, "CHUNK", chunk)
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(23, 320)).astype(np.float32), rng.integers(0, 320, 23)
    expected = F.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(targets), reduction="none")
    np.testing.assert_allclose(causal_lm.token_losses(logits, targets), expected.numpy(), rtol=1e-12)


def test_extreme_logits_stay_finite_and_the_callers_own():
    logits = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 0]], np.float32)
    before = logits.copy()
    with np.errstate(all="raise", under="ignore"):
        np.testing.assert_allclose(causal_lm.token_losses(logits, np.array([0, 0])), [0, 2e4])
    np.testing.assert_array_equal(logits, before)


def test_progress_counts_blocks(model):
    told = []

    class Bar:
        def __call__(self, description, total):
            told.append((description, total))
            return self

        def __enter__(self):
            return told.append

        def __exit__(self, *_):
            return None

    scored(run_of(model), BLOCKS, batch_size=2, progress=Bar(), description="Looking")
    assert told == [("Looking", 5), 2, 2, 1]
