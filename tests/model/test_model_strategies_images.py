import numpy as np
import pytest
import torch
from PIL import Image

from tledge import losses, model, plugins, tasks, train
from tledge.errors import ModelError
from tledge.inputs.image import ImageInput
from tledge.model import boundary
from tledge.progress import silent
from tledge.recipe.schema import Finetune, Preprocessing

SIZE = 32
CHANGES = {"flip": "horizontal", "min_scale": 0.6, "views": 3}


def photos(count, seed):
    """Small PNG-like arrays whose left or right half is brighter, and which half it is."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, count)
    images = rng.integers(0, 120, (count, 40, 44, 3), dtype=np.uint8)
    for image, target in zip(images, targets, strict=True):
        image[: 20 if target else None, 0 if target else 22 :] += 100
    return model.Rows(list(images), targets.astype(np.int64))


TRAIN, VALIDATION = photos(32, 1), photos(16, 2)


def classifier(*, task="image_classification", dropout_prob=0.0, scale=None):
    """A tiny convolutional classifier with random weights, its batch norms settled; and its preprocessing."""
    torch.manual_seed(0)
    backbone = model.load_backbone(
        "torchvision:shufflenet_v2_x0_5", kind="image", weights="none", preprocessing=Preprocessing(size=SIZE)
    )
    built = model.build(
        backbone, task=task, problem_type=tasks.load(task).PROBLEM_TYPE, labels=("a", "b") if scale is None else ("y",),
        dropout_prob=dropout_prob, head_hidden_size=None, target_scale=scale,
    )  # fmt: skip
    encoder = ImageInput(backbone.preprocessing)
    model.update_batch_norms(built.backbone, [encoder.encode(TRAIN.values)])
    return built, encoder


@pytest.fixture
def climb(tmp_path):
    """`climb(strategy=...)` trains a classifier through its phases and gives it with its phases and what was fitted."""
    torch.set_num_threads(1)

    def go(
        *, name="run", fit=True, task="image_classification", rows=(TRAIN, VALIDATION), dropout_prob=0.0, scale=None,
        progress=silent, loss=None, seed=0, **settings,
    ):  # fmt: skip
        settings = Finetune(**({"report_to": [], "batch_size": 8, "epochs": 2} | settings))
        chosen, (built, encoder) = tasks.load(task), classifier(task=task, dropout_prob=dropout_prob, scale=scale)
        changes = settings.augmentation
        fitted, phases = [], []
        for phase in model.phases(
            built, encoder, *rows, settings, cache=tmp_path / "cache", progress=silent, seed=seed
        ):
            phases.append(phase)
            if fit:
                fitted.append(
                    train.fit(
                        phase.module,
                        train.Sets(
                            phase.train, phase.validation,
                            train.Mix(changes, 2) if changes.mixes_images else None,
                        ),
                        train.supervised(
                            plugins.load(losses.__name__, loss or chosen.LOSS).loss,
                            label_weights=train.label_weights(
                                None, rows[0].targets, ("a", "b"), chosen.target_scale(rows[0].targets)
                            ),
                            mixed=changes.mixes_images,
                        ),
                        train.Scoring(chosen.score, chosen.METRIC, lower_is_better=False),
                        train.Plan(
                            phase.name, phase.note, tmp_path / name / phase.name, phase.groups, phase.epochs, 0,
                            phase.base_rate,
                        ),
                        settings,
                        progress=progress,
                    )
                )  # fmt: skip
        return built, phases, fitted

    return go


def close(first, second, **tolerance):
    ours, theirs = first.state_dict(), second.state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], **tolerance)


def moved(built):
    """Names of parameters and buffers that training has changed."""
    before = classifier()[0].state_dict()
    return {name for name, value in built.state_dict().items() if not torch.equal(value, before[name])}


def test_a_probe_on_cached_features_gives_what_it_gives_without(climb):
    ours, (phase,), (fitted,) = climb(strategy="probe", name="cached", dropout_prob=0.3)
    theirs, (plain_phase,), (plain,) = climb(strategy="probe", cache=False, name="plain", dropout_prob=0.3)
    close(ours, theirs, rtol=1e-3, atol=1e-4)
    assert moved(ours) == {"classifier.weight", "classifier.bias"}
    assert (phase.note, phase.train.decodes) == ("features kept in the cache", False)
    assert plain_phase.note == "the frozen backbone runs in every epoch; images are decoded for every batch"
    assert plain_phase.train.decodes
    for mine, other in zip(fitted.curve, plain.curve, strict=True):
        assert mine.validation_loss == pytest.approx(other.validation_loss, rel=1e-3)


def test_partial_on_cached_activations_gives_what_it_gives_without(climb):
    settings = {"strategy": "partial", "unfreeze": 3, "learning_rate": 1e-2, "optimizer": "sgd"}
    ours, (phase,), (fitted,) = climb(name="cached", **settings)
    theirs, (plain_phase,), (plain,) = climb(cache=False, name="plain", **settings)
    assert phase.note == "activations kept in the cache"
    assert plain_phase.note == "the whole model runs in every epoch; images are decoded for every batch"
    close(ours, theirs, rtol=1e-2, atol=2e-3)
    changed = moved(ours)
    assert changed == moved(theirs)
    assert any(name.startswith("backbone.conv5.") for name in changed)
    assert any("running_mean" in name for name in changed)
    frozen = [block.name for block in ours.blocks()[:-3]]
    assert not any(name.startswith(f"backbone.{block}.") for name in changed for block in frozen)
    for mine, other in zip(fitted.curve, plain.curve, strict=True):
        assert mine.validation_loss == pytest.approx(other.validation_loss, rel=1e-2)


@pytest.mark.parametrize("settings", [{"unfreeze": "stage4"}, {"freeze": "stage3"}])
def test_blocks_can_be_named(settings, climb):
    built, (phase,), _ = climb(strategy="partial", fit=False, **settings)
    level = [block.name for block in built.blocks()].index("stage4.0")
    assert phase.note == "activations kept in the cache"
    trained = {name for name, p in built.backbone.named_parameters() if p.requires_grad}
    assert trained == {name for block in built.blocks()[level:] for name in block.parameters}


def test_what_cannot_be_cut_runs_whole_and_says_why(climb, monkeypatch, tmp_path):
    monkeypatch.setattr(boundary, "cuttable", lambda *_: False)
    _, (phase,), _ = climb(strategy="partial", unfreeze=2, fit=False)
    assert phase.note.startswith("the whole model runs in every epoch: something passes by the 16 frozen blocks")
    assert not phase.train.decodes
    assert not list((tmp_path / "cache").rglob("vectors.npy"))


def test_the_cache_holds_views_of_training_images_alone(climb):
    _, (phase,), _ = climb(strategy="probe", augmentation=CHANGES, fit=False)
    assert phase.note == "features of 3 views of each training image kept in the cache"
    seen = [phase.train.batch([4, 9], seed)["features"] for seed in range(30)]
    for row in range(2):
        assert len({each[row].numpy().tobytes() for each in seen}) == 3
    unchanged = {phase.validation.batch([3])["features"].numpy().tobytes() for _ in range(5)}
    assert len(unchanged) == 1
    built, encoder = classifier()
    with torch.inference_mode():
        plain = built.features(torch.from_numpy(encoder.encode([VALIDATION.values[3]])["pixel_values"]))
    np.testing.assert_allclose(np.frombuffer(unchanged.pop(), np.float32), plain[0].numpy(), rtol=1e-2, atol=1e-3)


def test_views_of_activations_are_kept_too(climb):
    _, (phase,), (fitted,) = climb(strategy="partial", unfreeze=1, augmentation=CHANGES)
    assert phase.note == "activations of 3 views of each training image kept in the cache"
    assert phase.train.batch([1])["activations"].shape == (1, 192, 1, 1)
    assert len(fitted.curve) == 2


def test_views_are_kept_by_their_settings_and_seed(climb, tmp_path):
    def new(**settings):
        before = len(list((tmp_path / "cache").rglob("vectors.npy")))
        climb(strategy="probe", fit=False, **settings)
        return len(list((tmp_path / "cache").rglob("vectors.npy"))) - before

    assert new(augmentation=CHANGES) == 2  # of the training and the validation rows
    assert new(augmentation=CHANGES) == 0
    assert new(augmentation=CHANGES | {"views": 2}) == 1  # validation rows are never changed
    assert new(augmentation=CHANGES | {"min_scale": 0.5}) == 1
    assert new(augmentation=CHANGES, seed=1) == 1
    assert new() == 1
    assert new(seed=1) == 0  # nothing is drawn without changes


@pytest.mark.parametrize(
    "settings",
    [
        {"strategy": "probe", "augmentation": CHANGES},
        {"strategy": "full", "augmentation": CHANGES | {"mixup": 0.2, "cutmix": 1.0}, "learning_rate": 1e-3},
        {"strategy": "full", "augmentation": CHANGES, "workers": 2, "epochs": 2},
    ],
)
def test_a_resumed_training_sees_the_same_views(settings, climb):
    class Interrupted(Exception):  # noqa: N818
        pass

    class Progress:
        def __init__(self, description, total):
            self.done = 0

        def __enter__(self):
            return self.advance

        def __exit__(self, *_): ...

        def advance(self, count):
            self.done += count
            if self.done >= 6:
                raise Interrupted

    whole, _, (expected,) = climb(name="whole", **settings)
    with pytest.raises(Interrupted):
        climb(name="parted", progress=Progress, **settings)
    resumed, _, (fitted,) = climb(name="parted", **settings)
    assert fitted.curve == expected.curve
    close(whole, resumed, rtol=0, atol=0)


def test_numbers_are_estimated_on_cached_features(climb):
    rows = []
    for given in (TRAIN, VALIDATION):
        light = np.linspace(0, 130, len(given.values)).astype(np.uint8)
        values = [image // 2 + each for image, each in zip(given.values, light, strict=True)]
        rows.append(model.Rows(values, (light - 150.0).astype(np.float32)))
    scale = (float(rows[0].targets.mean()), float(rows[0].targets.std()))
    for loss in ("mse", "huber"):
        _, _, (fitted,) = climb(
            strategy="probe", task="image_regression", rows=rows, scale=scale, loss=loss, name=loss, epochs=20,
            learning_rate=0.01,
        )  # fmt: skip
        assert fitted.best_metric > 0.5
        assert fitted.curve[0].train_loss < 3


def test_gradual_unfreezes_from_the_top(climb):
    built, phases, fitted = climb(strategy="gradual", unfreeze=3, probe_epochs=2, epochs=2, learning_rate=1e-3)
    assert [phase.name for phase in phases] == ["probe", "gradual_1", "gradual_2", "gradual_3"]
    assert [len(each.curve) for each in fitted] == [2, 1, 1, 2]
    names = [block.name for block in built.blocks()]
    blocks = dict(zip(names, built.blocks(), strict=True))
    counts = [sum(len(group["params"]) for group in phase.groups) for phase in phases[1:]]
    below = 2  # the head's
    for count, name in zip(counts, reversed(names), strict=False):
        below += len(blocks[name].parameters)
        assert count == below
    assert not any(name.startswith(f"backbone.{names[-4]}.") for name in moved(built))


def test_gradual_ends_with_everything_by_default(climb):
    built, phases, _ = climb(strategy="gradual", epochs=None, fit=False)
    assert [phase.name for phase in phases] == ["probe", *(f"gradual_{k}" for k in range(1, len(built.blocks()) + 1))]
    assert [phase.epochs for phase in phases] == [40, *[1] * (len(phases) - 2), 3]
    assert all(p.requires_grad for p in built.parameters())


def test_gradual_refuses_too_many_blocks_before_it_trains(climb, tmp_path):
    with pytest.raises(ModelError, match=r"finetune\.unfreeze: got 99, but the backbone has 18 blocks"):
        climb(strategy="gradual", unfreeze=99)
    assert not (tmp_path / "run").exists()


def test_blocks_further_down_learn_more_slowly(climb):
    built, (phase,), _ = climb(strategy="full", layer_decay=0.5, fit=False)
    rates = {id(p): group["lr"] for group in phase.groups for p in group["params"]}
    assert len(rates) == len(list(built.parameters()))
    for distance, block in enumerate(reversed(built.blocks())):
        found = {rates[id(built.backbone.get_parameter(name))] for name in block.parameters}
        assert list(found) == pytest.approx([1e-4 * 0.5**distance])
    assert [rates[id(p)] for p in built.classifier.parameters()] == pytest.approx([1e-3, 1e-3])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"strategy": "probe"}, 3e-3),
        ({"strategy": "probe", "head_learning_rate": 0.1}, None),
        ({"strategy": "full"}, 1e-4),
        ({"strategy": "partial", "unfreeze": 2}, 1e-4),
    ],
)
def test_a_rate_that_is_to_be_found_is_said(settings, expected, climb):
    _, (phase,), _ = climb(fit=False, learning_rate="auto", **settings)
    assert phase.base_rate == expected
    assert climb(fit=False, learning_rate=0.5, **settings)[1][0].base_rate is None


def test_gradual_finds_its_rate_once(climb):
    _, phases, fitted = climb(strategy="gradual", unfreeze=2, probe_epochs=1, epochs=1, learning_rate="auto")
    assert [each.rate_finder is not None for each in fitted] == [False, True, False]
    found = fitted[1].rate_finder.suggestion
    for phase in phases[1:]:
        assert sorted({group["lr"] for group in phase.groups}) == pytest.approx([found, 10 * found])


@pytest.mark.parametrize("kind", ["bytes", "path"])
def test_images_are_decoded_once_for_a_training(kind, climb, tmp_path, monkeypatch):
    values = []
    for i, array in enumerate(TRAIN.values[:4]):
        path = tmp_path / f"{i}.png"
        Image.fromarray(array).save(path)
        values.append(
            {"bytes": path.read_bytes(), "path": None} if kind == "bytes" else {"bytes": None, "path": str(path)}
        )
    rows = (model.Rows(values, TRAIN.targets[:4]), VALIDATION)
    decoded = []
    read = ImageInput.decode
    monkeypatch.setattr(ImageInput, "decode", lambda self, value: decoded.append(value) or read(self, value))
    _, phases, _ = climb(strategy="probe_then_full", probe_epochs=2, rows=rows)
    assert len(decoded) == 4 + len(VALIDATION.values)
    assert phases[1].note.endswith(
        "; 4 images decoded once and kept (0.0 MB); 16 images decoded once and kept (0.0 MB)"
    )
    batch = phases[1].train.batch([2, 0])
    _, encoder = classifier()
    expected = encoder.encode([TRAIN.values[2], TRAIN.values[0]])["pixel_values"]
    np.testing.assert_array_equal(batch["pixel_values"].numpy(), expected)
    assert batch["labels"].tolist() == TRAIN.targets[[2, 0]].tolist()
