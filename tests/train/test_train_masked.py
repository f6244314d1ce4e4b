"""Losses of hidden tokens, against torch's own of all logits; how many there are; and that a model learns."""

import numpy as np
import pytest
import tiny_masked
import torch
from torch.nn import functional as F

from tledge.inputs.masked_text import masking_of
from tledge.masks import IGNORED
from tledge.train import JUDGED, HiddenTokens, MaskedBlocks, hidden_loss


@pytest.fixture(scope="module")
def masking():
    return masking_of(tiny_masked.tiny_tokenizer().backend_tokenizer, "[MASK]")


@pytest.fixture(scope="module")
def blocks():
    tokens = tiny_masked.tiny_tokenizer().backend_tokenizer
    ids = [token for text in tiny_masked.texts() for token in tokens.encode(text, add_special_tokens=False).ids]
    return np.array(ids[: len(ids) // 20 * 20], np.int32).reshape(-1, 20)


def model_of(family):
    torch.manual_seed(1)
    return tiny_masked.MODELS[family]().eval()


@pytest.mark.parametrize("family", tiny_masked.MODELS)
@pytest.mark.parametrize("by_token", [True, False])
def test_losses_are_those_of_the_whole_models_logits(family, by_token, blocks, masking):
    plain = model_of(family)
    module = HiddenTokens(plain)
    assert module._by_token, "the head of each of these families works token by token"
    module._by_token = by_token
    batch = MaskedBlocks(blocks, masking).batch(range(6), seed=4)
    labels = batch.pop("labels")
    inputs = {name: each for name, each in batch.items() if name != "targets"}
    logits = plain(**inputs).logits
    expected = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED)
    module.train()
    plain.eval()
    torch.testing.assert_close(hidden_loss(module(**batch), labels, None), expected, rtol=1e-4, atol=1e-5)
    counted = int((labels != IGNORED).sum())
    torch.testing.assert_close(hidden_loss(module(**batch), labels, 2 * counted), expected / 2, rtol=1e-4, atol=1e-5)
    module.eval()
    judged = module(**batch)[JUDGED]
    asked = labels != IGNORED
    each = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
    torch.testing.assert_close(judged[..., 0], each, rtol=1e-4, atol=1e-5)
    assert torch.equal(judged[..., 1][asked].long(), logits.argmax(-1)[asked])
    assert (judged[..., 1][~asked] == IGNORED).all()
    torch.testing.assert_close(hidden_loss({JUDGED: judged}, labels, None), expected, rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_the_whole_models_logits(blocks, masking):
    batch = MaskedBlocks(blocks, masking).batch(range(6), seed=4)
    labels = batch.pop("labels")
    found = []
    for by_token in (True, False):
        plain = model_of("bert")
        module = HiddenTokens(plain)
        module._by_token = by_token
        module.train()
        plain.eval()
        hidden_loss(module(**batch), labels, None).backward()
        found.append({name: p.grad for name, p in plain.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, grad in found[0].items():
        torch.testing.assert_close(grad, found[1][name], rtol=1e-4, atol=1e-6)


def test_rows_count_what_is_hidden_in_them(blocks, masking):
    rows, fixed = MaskedBlocks(blocks, masking), MaskedBlocks(blocks, masking, fixed=True)
    assert len(rows) == len(blocks)
    for columns in (rows, fixed):
        labels = columns.batch(range(len(blocks)), seed=9)["labels"]
        assert (labels != IGNORED).sum(dim=1).tolist() == columns.counted.tolist()
    again = rows.batch([3, 1], seed=9)["input_ids"]
    assert torch.equal(again, rows.batch([3, 1], seed=9)["input_ids"])
    assert not torch.equal(again, rows.batch([3, 1], seed=10)["input_ids"])
    assert torch.equal(fixed.batch([3, 1], seed=9)["input_ids"], fixed.batch([3, 1], seed=10)["input_ids"])


def test_a_model_that_takes_segments_gets_them(blocks, masking):
    assert "token_type_ids" not in MaskedBlocks(blocks, masking).batch([0])
    types = MaskedBlocks(blocks, masking, has_types=True).batch([0, 1])["token_type_ids"]
    assert types.shape == (2, 22)
    assert not types.any()
