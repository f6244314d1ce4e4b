"""Training language models: the losses are torch's own, whatever fits into memory, and they fall."""

import math

import numpy as np
import pytest
import torch
from tiny_language import MODELS, tiny_gpt2, tiny_llama
from torch.nn import functional as F

from tledge import train
from tledge.model import Language, freeze, language_phase
from tledge.progress import silent
from tledge.recipe.schema import Finetune, Lora
from tledge.tasks import causal_lm
from tledge.train import vocabulary

IDS = torch.randint(0, 320, (3, 8), generator=torch.Generator().manual_seed(2))
MASK = torch.ones_like(IDS)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def plain_losses(model):
    """Each predicted token's loss from whole logits."""
    logits = model(input_ids=IDS).logits[:, :-1]
    return F.cross_entropy(logits.transpose(1, 2), IDS[:, 1:], reduction="none")


def without_dropout(kind):
    options = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0} if kind == "gpt2" else {}
    return MODELS[kind](**options)


@pytest.mark.parametrize("kind", MODELS)
def test_evaluation_gives_the_loss_of_each_predicted_token(kind, monkeypatch):
    monkeypatch.setattr(vocabulary, "SCORED", 2 * IDS.shape[1])  # two blocks, then one
    monkeypatch.setattr(vocabulary, "CHUNK", 5 * 320)
    model = MODELS[kind]()
    wrapped = train.NextToken(model).eval()
    with torch.no_grad():
        found = wrapped(IDS, MASK)
        expected = plain_losses(model)
    assert list(found) == ["token_losses"]
    assert found["token_losses"].dtype == torch.float32
    torch.testing.assert_close(found["token_losses"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("chunk", [3 * 320, 2**24])
def test_training_has_the_gradients_of_the_plain_loss(kind, chunk, monkeypatch):
    monkeypatch.setattr(vocabulary, "CHUNK", chunk)
    model, twin = without_dropout(kind), without_dropout(kind)
    outputs = train.NextToken(model).train()(IDS, MASK)
    loss = train.token_loss(outputs, IDS, None)
    expected = twin(input_ids=IDS, labels=IDS).loss
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    loss.backward()
    expected.backward()
    for (name, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_accumulated_steps_weigh_as_one_batch():
    wrapped = train.NextToken(without_dropout("gpt2")).train()
    whole = train.token_loss(wrapped(IDS, MASK), IDS, None)
    parts = [train.token_loss(wrapped(IDS[i : i + 1], MASK[:1]), IDS[i : i + 1], IDS.numel()) for i in range(3)]
    torch.testing.assert_close(sum(parts), whole)


def test_label_smoothing_is_torchs():
    model = without_dropout("llama")
    wrapped = train.NextToken(model, label_smoothing=0.2).train()
    logits = model(input_ids=IDS).logits[:, :-1].flatten(0, 1)
    expected = F.cross_entropy(logits, IDS[:, 1:].flatten(), label_smoothing=0.2)
    torch.testing.assert_close(train.token_loss(wrapped(IDS, MASK), IDS, None), expected, rtol=1e-5, atol=1e-6)


def test_blocks_come_in_ready_batches_of_any_rows():
    blocks = np.arange(40, dtype=np.int32).reshape(8, 5)
    rows = train.TokenBlocks(blocks)
    assert len(rows) == 8
    batch = rows.batch([6, 0])
    assert batch["input_ids"].tolist() == batch["labels"].tolist() == [blocks[6].tolist(), blocks[0].tolist()]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}
    assert batch["attention_mask"].all()
    assert rows.batch([3])["input_ids"].shape == (1, 5)


def test_frozen_blocks_stay_in_eval_mode():
    model = tiny_gpt2()
    phase = language_phase(Language("", model, model.config, None), Finetune(strategy="partial", unfreeze=1))
    wrapped = train.NextToken(phase.module, on_training=phase.on_training).train()
    assert not model.transformer.h[0].training
    assert not model.transformer.drop.training
    assert model.transformer.h[1].training
    wrapped.eval()
    assert not any(module.training for module in wrapped.modules())


@pytest.fixture
def fit(tmp_path):
    """`fit(phase)` trains on 24 blocks that repeat themselves, and scores on 8 more."""
    blocks = (np.arange(32)[:, None] + np.arange(16)[None]) % 11 + 20

    def run(phase, *, progress=silent, metric="loss", settings=None):
        return train.fit(
            train.NextToken(phase.module, on_training=phase.on_training),
            train.Sets(train.TokenBlocks(blocks[:24]), train.TokenBlocks(blocks[24:])),
            train.token_loss,
            train.Scoring(causal_lm.score, metric, lower_is_better=True, output="token_losses"),
            train.Plan("full", phase.note, tmp_path / "run", phase.groups, phase.epochs, 0, phase.base_rate),
            settings or Finetune(strategy="full", batch_size=4, report_to=[]),
            progress=progress,
        )

    return run


@pytest.mark.parametrize(
    ("kind", "strategy", "options", "factor"),
    [
        ("gpt2", "full", {}, 0.4),
        ("llama", "full", {"layer_decay": 0.5}, 0.7),
        ("llama", "partial", {"unfreeze": 1}, 0.9),
        ("gpt2", "lora", {"lora": Lora(rank=8, alpha=32)}, 0.9),
    ],
)
def test_each_strategy_lowers_the_validation_loss(kind, strategy, options, factor, fit):
    model = MODELS[kind]()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    settings = Finetune(strategy=strategy, learning_rate=0.01, epochs=3, batch_size=4, report_to=[], **options)
    phase = language_phase(Language("", model, model.config, None), settings)
    start = float(np.mean([plain_losses(model).detach().numpy()]))
    fitted = fit(phase, settings=settings)
    losses = [point.validation_loss for point in fitted.curve]
    assert fitted.best_metric == pytest.approx(min(losses))
    assert min(losses) < factor * start
    assert [point.validation_metric for point in fitted.curve] == pytest.approx(losses)
    result = phase.finish()
    assert list(result.state_dict()) == list(before)
    assert not result.training
    same = {name for name, tensor in result.state_dict().items() if torch.equal(tensor, before[name])}
    embedding = "transformer.wte.weight" if kind == "gpt2" else "model.embed_tokens.weight"
    assert (embedding in same) == (strategy != "full")
    first_block = {name for name in before if ".0." in name}
    if strategy == "partial":
        assert first_block <= same
    assert phase.trained < phase.parameters or strategy == "full"


def test_an_interrupted_training_goes_on_and_gives_the_same(fit, toys, tmp_path):
    def phase():
        model = tiny_llama()
        settings = Finetune(strategy="full", learning_rate=0.01, epochs=2, batch_size=4, report_to=[])
        return language_phase(Language("", model, model.config, None), settings)

    whole = phase()
    expected = fit(whole)
    (tmp_path / "run").rename(tmp_path / "whole")
    with pytest.raises(toys.Interrupted):
        fit(phase(), progress=toys.interrupt_at(8))
    again = phase()
    found = fit(again)
    assert [point.validation_loss for point in found.curve] == [point.validation_loss for point in expected.curve]
    for ours, theirs in zip(again.module.parameters(), whole.module.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_perplexity_picks_the_epoch_too(fit):
    model = tiny_gpt2()
    settings = Finetune(strategy="full", learning_rate=0.01, epochs=2, batch_size=4, report_to=[])
    fitted = fit(language_phase(Language("", model, model.config, None), settings), metric="perplexity")
    best = min(fitted.curve, key=lambda point: point.validation_loss)
    assert fitted.best_metric == pytest.approx(math.exp(best.validation_loss), rel=1e-4)
    assert fitted.best_epoch == best.epoch


@pytest.mark.parametrize(
    ("reference", "settings", "rate"),
    [
        ("some/model", {"strategy": "full"}, 5e-5),
        ("some/model", {"strategy": "partial", "unfreeze": 1}, 5e-5),
        ("some/model", {"strategy": "lora"}, 3e-4),
        ("fresh:gpt2", {"strategy": "full"}, 1e-3),
        ("fresh:gpt2", {"strategy": "full", "learning_rate": 0.2}, 0.2),
        ("some/model", {"strategy": "full", "learning_rate": "auto"}, 5e-5),
    ],
)
def test_the_usual_learning_rates(reference, settings, rate):
    model = tiny_gpt2()
    phase = language_phase(Language(reference, model, model.config, None), Finetune(**settings))
    assert {group["lr"] for group in phase.groups} == {rate}
    assert phase.base_rate == (rate if settings.get("learning_rate") == "auto" else None)
    assert phase.epochs == 3
    counted = sum(p.numel() for group in phase.groups for p in group["params"])
    assert counted == phase.trained == sum(p.numel() for p in phase.module.parameters() if p.requires_grad)


def test_partial_training_leaves_what_freeze_leaves():
    ours, theirs = tiny_llama(), tiny_llama()
    language_phase(Language("", ours, ours.config, None), Finetune(strategy="partial", freeze=1))
    freeze(theirs, "partial", frozen=1)
    assert [p.requires_grad for p in ours.parameters()] == [p.requires_grad for p in theirs.parameters()]
