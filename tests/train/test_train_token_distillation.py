"""Tiny language models that learn from a teacher, token by token."""

import copy

import numpy as np
import pytest
import tiny_language
import torch
from torch.nn import functional as F

from tledge import model, tasks, train
from tledge.batches import Columns
from tledge.errors import TrainError
from tledge.losses.distillation import dkd, soft_targets
from tledge.model.blocks import blocks
from tledge.recipe.schema import Distill
from tledge.train import vocabulary
from tledge.train.intermediate import Inside
from tledge.train.token_distillation import LanguageDistillation, token_loss


def same(first, second):
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def close(first, second, **tolerance):
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, **tolerance)


def pairing_of(student, teacher, layer_map):
    ours, theirs = (tuple(b.modules[-1] for b in blocks(each)) for each in (student, teacher))
    return train.Pairing(ours, theirs, tuple(layer_map))


INSIDE = ("hidden_cosine", "attention", "value_relations")


class Blocks(Columns):
    """Random tokens, each block followed by itself, so that there is something to learn."""

    def __init__(self, count, seed=0, length=16):
        half = torch.randint(1, 320, (count, length // 2), generator=torch.Generator().manual_seed(seed))
        self.tokens = torch.cat([half, half], 1)

    def __len__(self):
        return len(self.tokens)

    def take(self, rows, seed):
        tokens = self.tokens[rows]
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens}


def language_score(outputs, _):
    return {"loss": float(outputs["token_losses"].mean())}


LANGUAGE = tasks.load("causal_lm")
OF_BLOCKS = {"task": LANGUAGE, "score": language_score, "lr": 2e-3}


def speakers(kind="gpt2"):
    """A teacher, its student of one block, and their pairing."""
    taught = (
        tiny_language.MODELS[kind](resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
        if kind == "gpt2"
        else (tiny_language.tiny_llama())
    )
    student = model.from_layers(taught, (0,))
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return student, taught, pairing_of(student, taught, (1,))


def plain_loss(student, taught, batch, weights, temperature):
    """All logits at once, with the functions of torch."""
    tokens = batch["input_ids"]
    with torch.no_grad():
        theirs = taught(tokens).logits
    s, t = (each[:, :-1].flatten(0, 1) for each in (student(tokens).logits, theirs))
    targets = tokens[:, 1:].flatten()
    divergence = F.kl_div(
        (s / temperature).log_softmax(-1), (t / temperature).log_softmax(-1), reduction="batchmean", log_target=True
    )
    total = weights["soft_targets"] * temperature**2 * divergence + weights["hard_labels"] * F.cross_entropy(s, targets)
    if "dkd" in weights:
        decoupled = dkd.loss(s, t, temperature=temperature, problem_type="causal_lm", targets=targets)
        total = total + weights["dkd"] * decoupled.mean()
    return total


def gradients(student, loss):
    student.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in student.named_parameters()}


@pytest.mark.parametrize("chunk", [1, 320 * 7, 2**24])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_losses_in_chunks_of_tokens_are_those_of_all_at_once(kind, chunk, monkeypatch):
    monkeypatch.setattr(vocabulary, "CHUNK", chunk)
    student, taught, _ = speakers(kind)
    weights = {"soft_targets": 1.0, "hard_labels": 0.5, "dkd": 0.1}
    batch = Blocks(4, 3).batch([0, 1, 2, 3])
    module = LanguageDistillation(student, taught, None, weights, Distill(temperature=3.0), batch).train()
    labels = batch.pop("labels")
    value = token_loss(module(**batch), labels, None)
    ours = gradients(student, value)
    expected = plain_loss(student, taught, batch, weights, 3.0)
    theirs = gradients(student, expected)
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-5)
    assert all(p.grad is None for p in taught.parameters())


def test_no_more_logits_are_in_memory_than_a_chunk(monkeypatch):
    monkeypatch.setattr(vocabulary, "CHUNK", 320 * 7)
    student, taught, _ = speakers()
    batch = Blocks(4, 3).batch([0, 1, 2, 3])
    heights = []
    original = soft_targets.loss
    monkeypatch.setattr(soft_targets, "loss", lambda s, t, **how: heights.append(s.shape) or original(s, t, **how))
    module = LanguageDistillation(student, taught, None, {"soft_targets": 1.0}, Distill(), batch).train()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.shape) or x, lambda x: x):
        module(**batch)["loss_sum"].backward()
    assert sum(shape[0] for shape in heights) == 60
    assert max(shape[0] for shape in heights) == 7
    assert not any(len(shape) == 2 and shape[0] > 7 and shape[1] == 320 for shape in saved)


def test_logits_that_are_more_than_a_product_are_taken_as_they_come():
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=320, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=16,
        intermediate_size=48, final_logit_softcapping=1.0, initializer_range=0.5, max_position_embeddings=64,
        attn_implementation="eager",
    )  # fmt: skip
    taught = Gemma2ForCausalLM(config).eval()
    student = copy.deepcopy(taught)
    with torch.no_grad():
        student.model.norm.weight.add_(0.3)
    batch = Blocks(2, 3).batch([0, 1])
    weights = {"soft_targets": 1.0, "hard_labels": 0.5}
    module = LanguageDistillation(student, taught, None, weights, Distill(), batch).train()
    labels = batch.pop("labels")
    value = token_loss(module(**batch), labels, None)
    ours = gradients(student, value)
    expected = plain_loss(student, taught, batch, weights, 2.0)
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
    for name, gradient in gradients(student, expected).items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-5)


def test_hidden_states_count_by_token_too():
    student, taught, pairing = speakers()
    batch = Blocks(4, 3).batch([0, 1, 2, 3])
    inside = Inside(
        ["hidden_cosine"], pairing, lambda: student(batch["input_ids"]), lambda: taught(batch["input_ids"]),
        random_seed=0,
    )  # fmt: skip
    weights = {"soft_targets": 1.0, "hard_labels": 0.5, "hidden_cosine": 2.0}
    module = LanguageDistillation(student, taught, inside, weights, Distill(), batch).train()
    labels = batch.pop("labels")
    value = token_loss(module(**batch), labels, None)
    # The first block of the student and the last of the teacher, before the norm that follows it.
    heard = {}
    for block in (student.transformer.h[0], taught.transformer.h[1]):
        block.register_forward_hook(lambda module, _, output: heard.update({module: output}))
    student(batch["input_ids"])
    taught(batch["input_ids"])
    cosine = (1 - F.cosine_similarity(*heard.values(), dim=-1)).mean()
    expected = plain_loss(student, taught, batch, weights, 2.0) + 2 * cosine
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


def test_a_language_student_learns_and_is_scored_token_by_token(distill):
    student, taught, pairing = speakers()
    rows = (Blocks(24, 1), Blocks(8, 2))
    fitted = distill(student, taught, rows, pairing=pairing, epochs=4, **OF_BLOCKS)
    assert fitted.curve[-1].train_loss < fitted.curve[0].train_loss
    assert fitted.best_metric == min(point.validation_metric for point in fitted.curve)
    with torch.no_grad():
        logits = student.eval()(rows[1].tokens).logits[:, :-1]
    expected = F.cross_entropy(logits.flatten(0, 1), rows[1].tokens[:, 1:].flatten()).item()
    assert fitted.best_metric == pytest.approx(expected, rel=1e-5)
    best = next(point for point in fitted.curve if point.epoch == fitted.best_epoch)
    assert best.validation_loss == pytest.approx(expected, rel=1e-5)
    assert student.lm_head.weight is student.transformer.wte.weight


def test_a_language_student_goes_on_where_it_was(distill, toys):
    rows = (Blocks(24, 1), Blocks(8, 2))
    whole, taught, _ = speakers()
    parted = copy.deepcopy(whole)
    pairing = pairing_of(whole, taught, (1,))
    distill(whole, taught, rows, pairing=pairing, folder="whole", **OF_BLOCKS)
    pairing = pairing_of(parted, taught, (1,))
    with pytest.raises(toys.Interrupted):
        distill(parted, taught, rows, pairing=pairing, folder="parted", progress=toys.interrupt_at(5), **OF_BLOCKS)
    distill(parted, taught, rows, pairing=pairing, folder="parted", **OF_BLOCKS)
    assert same(whole, parted)


def test_a_language_student_alone_learns_the_next_token(distill):
    student, _, _ = speakers()
    large, small = copy.deepcopy(student), copy.deepcopy(student)
    rows = (Blocks(24, 1), Blocks(8, 2))
    with torch.no_grad():
        before = F.cross_entropy(student(rows[0].tokens).logits[:, :-1].flatten(0, 1), rows[0].tokens[:, 1:].flatten())
    how = OF_BLOCKS | {"optimizer": "sgd", "lr": 1e-3}
    fitted = distill(large, None, rows, folder="large", batch_size=12, **how)
    assert fitted.curve[0].train_loss == pytest.approx(before.item(), rel=0.05)
    distill(small, None, rows, folder="small", batch_size=6, gradient_accumulation_steps=2, **how)
    close(large, small, rtol=1e-4, atol=1e-6)
    assert not same(large, student)


def test_vocabularies_that_differ_are_told(distill):
    student, _, _ = speakers()
    taught = tiny_language.tiny_gpt2(vocab_size=400)
    message = (
        r"^distill: the student has a vocabulary of 320 tokens and the teacher one of 400; .* teacher's tokenizer$"
    )
    with pytest.raises(TrainError, match=message):
        distill(student, taught, (Blocks(8), Blocks(8)), pairing=None, **OF_BLOCKS)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_what_lies_inside_of_language_models_is_learnt(kind, distill):
    student, taught, pairing = speakers(kind)
    weights = dict.fromkeys((*INSIDE, "dkd"), 1.0)
    fitted = distill(
        student, taught, (Blocks(24, 1), Blocks(8, 2)), pairing=pairing, losses=weights, epochs=3, **OF_BLOCKS
    )
    assert fitted.curve[-1].train_loss < fitted.curve[0].train_loss


@pytest.mark.parametrize("chunk", [320 * 7, 2**24])
def test_mixed_precision_trains_language_models(chunk, distill, monkeypatch):
    monkeypatch.setattr(vocabulary, "CHUNK", chunk)
    student, taught, pairing = speakers()
    rows = (Blocks(24, 1), Blocks(8, 2))
    mixed = distill(student, taught, rows, pairing=pairing, precision="bf16", **OF_BLOCKS)
    assert mixed.curve[-1].train_loss < mixed.curve[0].train_loss
    assert all(p.dtype == torch.float32 for p in student.parameters())
    assert np.isfinite(mixed.best_metric)


def test_blocks_are_scored_some_at_a_time(monkeypatch):
    student, _, _ = speakers()
    batch = Blocks(7, 3).batch(list(range(7)))
    labels = batch.pop("labels")
    module = LanguageDistillation(student, None, None, {"hard_labels": 1.0}, Distill(), batch).eval()
    heights = []
    student.transformer.h[0].register_forward_hook(lambda _m, args, _o: heights.append(args[0].shape[0]))
    with torch.no_grad():
        whole = module(**batch)["token_losses"]
        monkeypatch.setattr(vocabulary, "SCORED", 3 * 16 + 5)
        parts = module(**batch)["token_losses"]
        logits = student(batch["input_ids"]).logits[:, :-1]
    assert heights == [7, 3, 3, 1, 7]
    expected = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="none").reshape(7, 15)
    for losses in (whole, parts):
        torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)
