import families
import numpy as np
import pytest
import torch

from tledge import losses, model, plugins, tasks, train
from tledge.errors import ModelError
from tledge.progress import silent
from tledge.recipe.schema import Finetune
from tledge.recipe.training import Lora

TASK = tasks.load("text_classification")
TRAIN, VALIDATION = families.rows(40, seed=1), families.rows(16, seed=2)


@pytest.fixture
def climb(pretrained, tmp_path):
    """`climb("bert", strategy=...)` trains a classifier through its phases and gives it with what was fitted."""

    def go(family="bert", *, name="run", dropout_prob=0.0, fit=True, **settings):
        settings = Finetune(**({"report_to": [], "batch_size": 8, "epochs": 2} | settings))
        built, backbone = families.classifier(pretrained(family), dropout_prob=dropout_prob)
        encoder = families.encoder(built, backbone, tmp_path / name / "tokenizer")
        fitted, phases = [], []
        for phase in model.phases(
            built, encoder, TRAIN, VALIDATION, settings, cache=tmp_path / "cache", progress=silent
        ):
            phases.append(phase)
            if fit:
                fitted.append(
                    train.fit(
                        phase.module,
                        train.Sets(phase.train, phase.validation),
                        train.supervised(plugins.load(losses.__name__, TASK.LOSS).loss),
                        train.Scoring(TASK.score, TASK.METRIC, lower_is_better=False),
                        train.Plan(
                            phase.name, phase.note, tmp_path / name / phase.name, phase.groups, phase.epochs, 0,
                            phase.base_rate,
                        ),
                        settings,
                        progress=silent,
                    )
                )  # fmt: skip
        return built, phases, fitted

    return go


def close(first, second, **tolerance):
    ours, theirs = first.state_dict(), second.state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], **tolerance)


def moved(built, pretrained, family="bert"):
    """Names of parameters that training has changed."""
    fresh, _ = families.classifier(pretrained(family))
    before = fresh.state_dict()
    return {name for name, value in built.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_probe_on_cached_features_gives_what_it_gives_without(family, climb, pretrained):
    ours, phases, fitted = climb(family, strategy="probe", cache=True, name="cached", dropout_prob=0.3)
    theirs, _, plain = climb(family, strategy="probe", cache=False, name="plain", dropout_prob=0.3)
    close(ours, theirs, rtol=1e-3, atol=1e-4)
    assert moved(ours, pretrained, family) == {"classifier.weight", "classifier.bias"}
    assert phases[0].note == "features kept in the cache"
    for mine, other in zip(fitted[0].curve, plain[0].curve, strict=True):
        assert mine.validation_loss == pytest.approx(other.validation_loss, rel=1e-3)


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2"])
def test_partial_on_cached_activations_gives_what_it_gives_without(family, climb, pretrained):
    settings = {"strategy": "partial", "unfreeze": 1, "learning_rate": 1e-3, "optimizer": "sgd"}
    ours, phases, fitted = climb(family, cache=True, name="cached", **settings)
    theirs, plain_phases, plain = climb(family, cache=False, name="plain", **settings)
    assert phases[0].note == "activations of the 2 frozen blocks are cached"
    assert plain_phases[0].note == "the whole model runs in every epoch"
    close(ours, theirs, rtol=1e-2, atol=2e-3)
    changed = moved(ours, pretrained, family)
    assert changed == moved(theirs, pretrained, family)
    assert any(".2." in name for name in changed)
    assert not any(".0." in name or ".1." in name or "embedding" in name for name in changed)
    for mine, other in zip(fitted[0].curve, plain[0].curve, strict=True):
        assert mine.validation_loss == pytest.approx(other.validation_loss, rel=1e-2)


def test_a_second_probe_reuses_the_features(climb, tmp_path):
    first = climb(strategy="probe", fit=False, name="first")[1][0]
    again = climb(strategy="probe", fit=False, name="again")[1][0]
    assert first.note == again.note == "features kept in the cache", "which a training that goes on says too"
    assert len(list(tmp_path.rglob("features.json"))) == 2, "of the training and the validation rows, once each"
    ours, theirs = (phase.train.batch([3, 1]) for phase in (first, again))
    assert ours.keys() == {"features", "labels"}
    assert torch.equal(ours["features"], theirs["features"])
    assert ours["labels"].tolist() == TRAIN.targets[[3, 1]].tolist()


def test_probe_then_full_trains_the_head_and_then_everything(climb, pretrained):
    built, phases, fitted = climb(strategy="probe_then_full", probe_epochs=3, learning_rate=1e-3)
    assert [phase.name for phase in phases] == ["probe", "full"]
    assert [phase.epochs for phase in phases] == [3, 2]
    assert [len(each.curve) for each in fitted] == [3, 2]
    changed = moved(built, pretrained)
    assert "classifier.weight" in changed
    assert any("embeddings" in name for name in changed)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_lora_trains_adapters_and_the_head_alone_and_merges_them(family, pretrained, tmp_path):
    built, backbone = families.classifier(pretrained(family), dropout_prob=0.0)
    plain = built.state_dict().keys()
    settings = Finetune(strategy="lora", lora=Lora(rank=4), report_to=[])
    encoder = families.encoder(built, backbone, tmp_path / "tokenizer")
    phases = model.phases(built, encoder, TRAIN, VALIDATION, settings, cache=tmp_path, progress=silent, seed=3)
    phase = next(phases)
    training = {name for name, p in built.named_parameters() if p.requires_grad}
    assert {name for name in training if "lora_" not in name} == {"classifier.weight", "classifier.bias"}
    assert any("lora_" in name for name in training)
    assert {id(p) for group in phase.groups for p in group["params"]} == {
        id(p) for p in built.parameters() if p.requires_grad
    }
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.3)
        built.eval()
        inputs = {k: torch.as_tensor(v) for k, v in encoder.encode(list(families.TEXTS)).items()}
        fresh = families.classifier(pretrained(family))[0].features(**inputs)
        adapted = built.features(**inputs)
        assert next(phases, None) is None
        torch.testing.assert_close(built.features(**inputs), adapted, rtol=1e-4, atol=1e-4)
    assert (adapted - fresh).abs().max() > 0.1
    assert built.state_dict().keys() == plain


def test_lora_learns(climb, pretrained):
    built, phases, fitted = climb(strategy="lora", epochs=12, learning_rate=0.003)
    assert [phase.name for phase in phases] == ["lora"]
    assert phases[0].note == "adapters of rank 8 train, and are merged into the weights"
    curve = [point.train_loss for point in fitted[0].curve]
    assert min(curve) < 0.7 * curve[0], curve
    changed = moved(built, pretrained)
    assert any("attention" in name for name in changed)
    assert not any("embeddings" in name or "LayerNorm" in name for name in changed)


def rates(phase):
    """Learning rates of the head and of the backbone, `None` where it has none."""
    head = {
        id(p) for p in (phase.module.model if hasattr(phase.module, "model") else phase.module).classifier.parameters()
    }
    found = {True: set(), False: set()}
    for group in phase.groups:
        for parameter in group["params"]:
            found[id(parameter) in head].add(group["lr"])
    return tuple(next(iter(found[key])) if found[key] else None for key in (True, False))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"strategy": "probe"}, [(3e-3, None)]),
        ({"strategy": "probe", "learning_rate": 0.1}, [(0.1, None)]),
        ({"strategy": "probe", "learning_rate": 0.1, "head_learning_rate": 0.2}, [(0.2, None)]),
        ({"strategy": "full"}, [(5e-4, 5e-5)]),
        ({"strategy": "full", "learning_rate": 1e-4}, [(pytest.approx(1e-3), 1e-4)]),
        ({"strategy": "full", "head_learning_rate": 1e-2}, [(1e-2, 5e-5)]),
        ({"strategy": "partial", "unfreeze": 1, "learning_rate": 1e-4}, [(pytest.approx(1e-3), 1e-4)]),
        ({"strategy": "lora"}, [(pytest.approx(3e-3), 3e-4)]),
        ({"strategy": "lora", "learning_rate": 1e-3}, [(pytest.approx(1e-2), 1e-3)]),
        ({"strategy": "probe_then_full", "learning_rate": 1e-4}, [(3e-3, None), (pytest.approx(1e-3), 1e-4)]),
        ({"strategy": "probe_then_full", "head_learning_rate": 0.1}, [(0.1, None), (0.1, 5e-5)]),
    ],
)
def test_learning_rates(settings, expected, climb):
    _, phases, _ = climb(fit=False, **settings)
    assert [rates(phase) for phase in phases] == expected


@pytest.mark.parametrize(
    ("settings", "epochs"),
    [
        ({"strategy": "probe"}, [40]),
        ({"strategy": "full"}, [3]),
        ({"strategy": "partial", "unfreeze": 2}, [3]),
        ({"strategy": "probe_then_full"}, [40, 3]),
    ],
)
def test_epochs_by_default(settings, epochs, climb):
    assert [phase.epochs for phase in climb(fit=False, epochs=None, **settings)[1]] == epochs


def test_gradual_unfreezes_from_the_top(climb, pretrained):
    built, phases, fitted = climb(strategy="gradual", unfreeze=2, probe_epochs=2, epochs=3, learning_rate=1e-3)
    assert [phase.name for phase in phases] == ["probe", "gradual_1", "gradual_2"]
    assert [len(each.curve) for each in fitted] == [2, 1, 3]
    changed = moved(built, pretrained)
    assert any(".1." in name for name in changed)
    assert not any(".0." in name or "embedding" in name for name in changed)
    whole, phases, _ = climb(strategy="gradual", fit=False, name="whole")
    assert [phase.name for phase in phases] == ["probe", "gradual_1", "gradual_2", "gradual_3"]
    assert all(p.requires_grad for p in whole.parameters())


def test_blocks_further_down_learn_more_slowly(climb):
    built, (phase,), _ = climb(fit=False, strategy="full", layer_decay=0.5, learning_rate=1e-3)
    found = {id(p): group["lr"] for group in phase.groups for p in group["params"]}
    expected = {"embeddings": 1.25e-4, "layer.0": 2.5e-4, "layer.1": 5e-4, "layer.2": 1e-3, "classifier": 1e-2}
    for name, parameter in built.named_parameters():
        part = next((part for part in expected if part in name), None)
        assert found[id(parameter)] == pytest.approx(expected[part] if part else 1e-3)


def test_a_rate_that_is_to_be_found_is_found_and_kept(climb):
    _, (phase,), (fitted,) = climb(strategy="partial", unfreeze=1, learning_rate="auto")
    assert phase.base_rate == 5e-5
    found = fitted.rate_finder.suggestion
    assert rates(phase) == (pytest.approx(10 * found), pytest.approx(found))
    _, (probe, full), fitted = climb(strategy="probe_then_full", learning_rate="auto", name="both", probe_epochs=1)
    assert (probe.base_rate, full.base_rate) == (None, 5e-5)
    assert [each.rate_finder is None for each in fitted] == [True, False]


def test_biases_and_norms_do_not_decay_and_every_trained_parameter_is_in_one_group(climb):
    for settings in ({"strategy": "full"}, {"strategy": "partial", "unfreeze": 2}, {"strategy": "probe"}):
        built, (phase,), _ = climb(fit=False, weight_decay=0.3, **settings)
        grouped = [p for group in phase.groups for p in group["params"]]
        assert sorted(map(id, grouped)) == sorted(id(p) for p in built.parameters() if p.requires_grad)
        for group in phase.groups:
            assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] == 0.3}


@pytest.mark.parametrize("unfreeze", ["embeddings.*", "*.bias", 3])
def test_without_a_frozen_block_below_nothing_is_cached(unfreeze, climb, tmp_path):
    _, (phase,), _ = climb(fit=False, strategy="partial", unfreeze=unfreeze)
    assert phase.note == "the whole model runs in every epoch"
    assert not (tmp_path / "cache").exists()


def test_a_pattern_above_frozen_blocks_is_cached(climb):
    _, (phase,), _ = climb(fit=False, strategy="partial", unfreeze="pooler.*")
    assert phase.note == "activations of the 3 frozen blocks are cached"


def test_the_blocks_are_put_back_when_a_phase_fails(climb, pretrained, tmp_path):
    built, backbone = families.classifier(pretrained("bert"))
    encoder = families.encoder(built, backbone, tmp_path / "tokenizer")
    before = list(built.backbone.encoder.layer)
    settings = Finetune(strategy="partial", unfreeze=1, report_to=[])
    running = model.phases(built, encoder, TRAIN, VALIDATION, settings, cache=tmp_path / "cache", progress=silent)
    next(running)
    assert list(built.backbone.encoder.layer) != before
    running.close()
    assert list(built.backbone.encoder.layer) == before


def test_a_number_of_blocks_that_there_is_not_is_refused(climb):
    with pytest.raises(ModelError, match=r"finetune\.unfreeze: got 9, but the backbone has 3 blocks"):
        climb(fit=False, strategy="partial", unfreeze=9)


def test_batches_of_texts_are_padded_to_their_own_longest(climb):
    _, (phase,), _ = climb(fit=False, strategy="full")
    assert len(phase.train) == 40
    lengths = {phase.train.batch([i])["input_ids"].shape[1] for i in range(10)}
    assert len(lengths) > 1
    batch = phase.train.batch(list(range(10)))
    assert batch["input_ids"].shape == (10, max(lengths))
    np.testing.assert_array_equal(batch["labels"].numpy(), TRAIN.targets[:10])
    assert set(phase.train.batch([0])) == set(batch)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_whole_model_is_resumed_to_the_same_weights(family, climb, monkeypatch, tmp_path):
    whole, _, _ = climb(family, strategy="full", learning_rate=1e-3, name="whole", dropout_prob=0.1)
    original = train.fit.__globals__["write_json"]

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setitem(train.fit.__globals__, "write_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        climb(family, strategy="full", learning_rate=1e-3, name="parted", dropout_prob=0.1)
    monkeypatch.setitem(train.fit.__globals__, "write_json", original)
    assert (tmp_path / "parted" / "full" / "resume.pt").exists()
    resumed, _, _ = climb(family, strategy="full", learning_rate=1e-3, name="parted", dropout_prob=0.1)
    close(whole, resumed, rtol=0, atol=0)
