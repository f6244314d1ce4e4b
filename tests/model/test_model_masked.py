"""Masked language models: loaded with their head, or with a fresh one that is told; saved; their errors."""

import pytest
import tiny_language
import tiny_masked
import torch
from transformers import AutoModel, AutoModelForMaskedLM

from tledge.errors import ModelError
from tledge.model import load, load_backbone, load_masked, masked_tokenizer, save_masked

IDS = torch.tensor([[2, 6, 4, 8, 3], [2, 9, 10, 4, 3]])


def logits(module):
    with torch.no_grad():
        return module(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


@pytest.mark.parametrize("family", tiny_masked.MODELS)
def test_a_checkpoint_with_its_head_is_loaded_as_it_is(family, tmp_path):
    tiny_masked.checkpoint(tmp_path, family)
    found = load_masked(str(tmp_path), max_length=64)
    assert found.notes == ()
    theirs = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(logits(found.module), logits(theirs))
    assert logits(found.module).shape == (2, 5, len(tiny_masked.WORDS))


def test_an_encoder_alone_gets_a_fresh_head_that_is_tied_and_told(tmp_path):
    tiny_masked.checkpoint(tmp_path)
    body = AutoModel.from_pretrained(tmp_path)
    body.save_pretrained(tmp_path)
    found = load_masked(str(tmp_path))
    (note,) = (note for note in found.notes if "no head" in note)
    assert "begins with random weights; its last layer is the embedding" in note
    assert found.module.get_output_embeddings().weight is found.module.get_input_embeddings().weight
    for name, tensor in body.state_dict().items():
        if not name.startswith("pooler"):
            assert torch.equal(found.module.base_model.state_dict()[name], tensor)


def test_a_checkpoint_without_parts_of_its_body_is_refused(tmp_path):
    tiny_masked.checkpoint(tmp_path)
    state = AutoModelForMaskedLM.from_pretrained(tmp_path)
    kept = {n: t.clone() for n, t in state.state_dict().items() if "layer.1.output.dense" not in n}
    kept.pop("cls.predictions.decoder.weight"), kept.pop("cls.predictions.decoder.bias", None)
    state.save_pretrained(tmp_path, state_dict=kept)
    with pytest.raises(ModelError, match=r"missing: bert\.encoder\.layer\.1\.output\.dense"):
        load_masked(str(tmp_path))


@pytest.mark.parametrize("family", tiny_masked.MODELS)
def test_saved_and_loaded_it_answers_alike_and_its_encoder_serves_others(family, tmp_path):
    tiny_masked.checkpoint(tmp_path / "first", family)
    found = load_masked(str(tmp_path / "first"))
    with torch.no_grad():
        for parameter in found.module.parameters():
            parameter.add_(0.01)
    save_masked(found.module, tmp_path / "second", found.tokenizer, task="masked_lm", max_length=32)
    torch.testing.assert_close(logits(load(tmp_path / "second")), logits(found.module))
    torch.testing.assert_close(logits(AutoModelForMaskedLM.from_pretrained(tmp_path / "second")), logits(found.module))
    run = tmp_path / "run" / "train"
    run.mkdir(parents=True)
    (tmp_path / "second").rename(run / "checkpoint")
    body = load_backbone(str(tmp_path / "run"), kind="text")
    ours, theirs = body.module.state_dict(), found.module.base_model.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_what_cannot_find_words_is_refused_in_one_line(tmp_path):
    tiny_language.checkpoint(tmp_path / "gpt2")
    with pytest.raises(ModelError, match=r"\(gpt2\) has no form that says what hidden words were; expected an encoder"):
        load_masked(str(tmp_path / "gpt2"))
    tiny_masked.checkpoint(tmp_path / "bert")
    with pytest.raises(ModelError, match=r"model\.max_length: got 67, but .* reads at most 66 tokens"):
        load_masked(str(tmp_path / "bert"), max_length=67)
    tiny_masked.tiny_tokenizer(mask_token=None).save_pretrained(tmp_path / "bert")
    with pytest.raises(ModelError, match=r"has no token that hides a word; set mask_token"):
        masked_tokenizer(str(tmp_path / "bert"))


def test_the_positions_of_roberta_begin_behind_that_of_padding(tmp_path):
    tiny_masked.checkpoint(tmp_path, "roberta")
    with pytest.raises(ModelError, match="reads at most 65 tokens"):
        load_masked(str(tmp_path), max_length=66)
