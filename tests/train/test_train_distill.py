"""Students of nets of points and of pictures: what they learn from answers, and from labels."""

import pytest
import torch
from tiny_seer import Pictures, Seer
from torch.nn import functional as F

from tledge import losses, plugins, train
from tledge.batches import Columns
from tledge.errors import TrainError
from tledge.recipe.schema import Augmentation, Distill
from tledge.train.objective import supervised
from tledge.train.row_distillation import distillation_loss

CROSS_ENTROPY = plugins.load(losses.__name__, "cross_entropy").loss


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first, second):
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def close(first, second, **tolerance):
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, **tolerance)


class DistillationSets(Columns):
    """Rows of another data set with more tensors in their batches."""

    def __init__(self, rows, labelled=None, **more):
        self.rows, self.more, self.labelled = rows, more, labelled
        if labelled is not None:
            self.labelled_share = labelled.float().mean().item()

    def __len__(self):
        return len(self.rows)

    def take(self, rows, seed):
        batch = self.rows.take(rows, seed) | {name: each[rows] for name, each in self.more.items()}
        return batch if self.labelled is None else batch | {"labelled": self.labelled[rows]}


def points(toys):
    return toys.Points(64, 1), toys.Points(32, 2)


@pytest.fixture
def teacher(toys):
    """A net that knows on which side of another line points are than the labels say."""
    net = toys.Net(dropout_prob=0.5, seed=7)
    optimizer = torch.optim.Adam(net.parameters(), 0.05)
    rows = toys.Points(256, 5)
    other = (rows.points[:, 2] > 0).long()
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(net.eval()(rows.points)["logits"], other).backward()
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return net


# What is learnt from the teacher


def test_the_student_answers_as_its_teacher_does_and_not_as_the_labels_say(distill, toys, teacher):
    student, before = toys.Net(), state(teacher)
    distill(student, teacher, points(toys), losses={"soft_targets": 1.0}, epochs=12)
    rows = toys.Points(200, 9)
    student.eval()
    with torch.no_grad():
        ours, theirs = (net(rows.points)["logits"].argmax(1) for net in (student, teacher))
    assert (ours == theirs).float().mean() > 0.9
    assert (ours == rows.targets).float().mean() < 0.7
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())
    assert not teacher.training


def test_hard_labels_pull_the_other_way(distill, toys, teacher):
    student = toys.Net()
    distill(student, teacher, points(toys), losses={"soft_targets": 0.01, "hard_labels": 1.0}, epochs=12)
    rows = toys.Points(200, 9)
    with torch.no_grad():
        assert (student.eval()(rows.points)["logits"].argmax(1) == rows.targets).float().mean() > 0.9


def test_the_teacher_sees_the_very_batch(distill, toys, teacher):
    class Noisy(toys.Points):
        def take(self, rows, seed):
            batch = super().take(rows, seed)
            return batch | {"points": batch["points"] + torch.randn(len(rows), 4)}

    class Witness(toys.Net):
        def __init__(self, seen, **options):
            super().__init__(**options)
            self.seen = seen

        def forward(self, points):
            self.seen.append(points.clone())
            return super().forward(points)

    ours, theirs = [], []
    student, witness = Witness(ours), Witness(theirs)
    distill(student, witness, (Noisy(64, 1), toys.Points(32, 2)), losses={"soft_targets": 1.0}, epochs=1)
    trained = theirs[-8:]  # the first runs are tries
    assert all(any(torch.equal(batch, other) for other in ours) for batch in trained)
    assert len({batch.sum().item() for batch in trained}) == 8


def test_the_student_alone_is_trained_as_ever(distill, toys, teacher, fit):
    rows = points(toys)
    alone, plain = toys.Net(), toys.Net()
    ours = distill(alone, None, rows, epochs=2)
    theirs = fit(plain, folder="plain", rows=rows, epochs=2)
    assert same(alone, plain)
    assert [point.validation_loss for point in ours.curve] == [point.validation_loss for point in theirs.curve]
    again = toys.Net()
    distill(
        again, None, (DistillationSets(rows[0], teacher_logits=torch.randn(64, 2)), rows[1]), folder="cached", epochs=2
    )
    assert same(alone, again)


def test_both_students_see_the_same_rows_in_the_same_order(distill, toys, teacher):
    class Recorder(toys.Points):
        def take(self, rows, seed):
            heard.append((list(rows), torch.get_rng_state().sum().item()))
            return super().take(rows, seed)

    histories = []
    for folder, one in (("taught", teacher), ("alone", None)):
        heard = []
        distill(toys.Net(), one, (Recorder(64, 1), toys.Points(32, 2)), folder=folder, epochs=2)
        histories.append([each for each in heard if len(each[0]) == 8])
    assert histories[0] == histories[1]
    assert len(histories[0]) == 16


def test_resuming_gives_what_an_undisturbed_run_gives(distill, toys, teacher, tmp_path):
    whole, parted = toys.Net(), toys.Net()
    expected = distill(whole, teacher, points(toys), folder="whole")
    with pytest.raises(toys.Interrupted):
        distill(parted, teacher, points(toys), folder="parted", progress=toys.interrupt_at(17))
    stored = torch.load(tmp_path / "parted" / "resume.pt", weights_only=True)
    assert {name.partition(".")[0] for name in stored["state"]["weights"]} == {"student"}
    parted = toys.Net(seed=99)
    again = distill(parted, teacher, points(toys), folder="parted")
    assert same(whole, parted)
    assert again.curve == expected.curve


def test_accumulated_gradients_equal_those_of_a_large_batch(distill, toys, teacher):
    large, small = toys.Net(dropout_prob=0), toys.Net(dropout_prob=0)
    rows = (DistillationSets(toys.Points(60, 1), torch.arange(60) % 3 > 0), toys.Points(32, 2))
    weights = {"soft_targets": 1.0, "dkd": 0.3, "hard_labels": 0.5}
    distill(large, teacher, rows, folder="large", batch_size=16, losses=weights)
    distill(small, teacher, rows, folder="small", batch_size=8, gradient_accumulation_steps=2, losses=weights)
    close(large, small, rtol=1e-4, atol=1e-5)


def test_kept_logits_teach_as_the_teacher_itself(distill, toys, teacher):
    train_rows, validation = points(toys)
    with torch.no_grad():
        logits = teacher.eval()(train_rows.points)["logits"]
    live, cached = toys.Net(), toys.Net()

    class Silent(toys.Net):
        def forward(self, points):
            raise AssertionError("the teacher ran")

    distill(live, teacher, (train_rows, validation), folder="live")
    distill(cached, Silent(), (DistillationSets(train_rows, teacher_logits=logits), validation), folder="cached")
    close(live, cached, rtol=1e-3, atol=1e-4)


# Rows without labels


def test_rows_without_a_label_teach_what_the_teacher_says_of_them_alone(distill, toys, teacher):
    labelled = torch.arange(64) < 16
    nets = []
    for i, junk in enumerate((0, 1)):
        rows = toys.Points(64, 1)
        rows.targets = torch.where(labelled, rows.targets, junk)
        nets.append(toys.Net())
        lessons = (DistillationSets(rows, labelled), toys.Points(32, 2))
        distill(nets[-1], teacher, lessons, folder=str(i), losses={"soft_targets": 1.0, "dkd": 0.1, "hard_labels": 0.5})
    assert same(*nets)
    only = toys.Net()
    few = toys.Points(64, 1)
    few.points, few.targets = few.points[:16], few.targets[:16]
    distill(only, teacher, (few, toys.Points(32, 2)), folder="few", losses={"soft_targets": 1.0, "hard_labels": 0.5})
    assert not same(nets[0], only)


def test_the_loss_of_labels_is_a_mean_over_the_rows_that_have_one():
    logits, labels = torch.randn(8, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    labelled = torch.tensor([True, False] * 4)
    objective = distillation_loss(
        {"hard_labels": 1.0}, supervised(CROSS_ENTROPY), temperature=1.0,
        problem_type="single_label_classification", labelled_share=0.5,
    )  # fmt: skip
    value = objective({"logits": logits, "labelled": labelled}, labels, None)
    torch.testing.assert_close(value, F.cross_entropy(logits[::2], labels[::2]))
    parts = [
        objective({"logits": logits[rows], "labelled": labelled[rows]}, labels[rows], 8)
        for rows in (slice(0, 3), slice(3, 8))
    ]
    torch.testing.assert_close(parts[0] + parts[1], value)


@pytest.mark.parametrize("kind", ["multi_label_classification", "regression"])
def test_the_weighted_sum_of_other_problems(kind):
    generator = torch.Generator().manual_seed(1)
    width = 1 if kind == "regression" else 3
    logits, theirs = (torch.randn(6, width, generator=generator) for _ in range(2))
    if kind == "regression":
        labels, name, scale = torch.randn(6, generator=generator), "mse", torch.tensor([0.5])
        expected = 0.5 * (0.25 * (logits[:, 0] - labels) ** 2).mean() + 2 * (0.25 * (logits - theirs) ** 2).mean()
    else:
        labels, name, scale = torch.randint(2, (6, 3), generator=generator).float(), "binary_cross_entropy", None
        p, q = ((each / 2).sigmoid() for each in (theirs, logits))
        divergence = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
        expected = 0.5 * F.binary_cross_entropy_with_logits(logits, labels) + 2 * 4 * divergence.mean()
    objective = distillation_loss(
        {"hard_labels": 0.5, "soft_targets": 2.0},
        supervised(plugins.load(losses.__name__, name).loss, label_weights=scale),
        temperature=2.0, problem_type=kind, scale=scale,
    )  # fmt: skip
    outputs = {"logits": logits, "teacher_logits": theirs}
    for n_items in (None, labels.numel()):
        torch.testing.assert_close(objective(outputs, labels, n_items), expected, rtol=1e-4, atol=1e-5)


# Images


def test_the_teacher_sees_mixed_images(distill):
    mix = train.Mix(Augmentation(mixup=1.0, cutmix=1.0), n_labels=2)
    student, teacher = Seer(), Seer(seed=4)
    originals = {image.sum().item() for image in Pictures(64, 1).images}
    distill(student, teacher, (Pictures(64, 1), Pictures(32, 2)), mix=mix, epochs=1, losses={"soft_targets": 1.0})
    ours = [batch for batch in student.seen if len(batch) == 8]
    theirs = [batch for batch in teacher.seen if len(batch) == 8]
    assert len(theirs) == 8
    assert all(any(torch.equal(batch, other) for other in ours) for batch in theirs)
    assert all(image.sum().item() not in originals for image in theirs[0])


def test_kept_logits_and_mixed_images_do_not_go_together(distill):
    rows = (DistillationSets(Pictures(64, 1), teacher_logits=torch.randn(64, 2)), Pictures(32, 2))
    with pytest.raises(TrainError, match=r"^distill\.teacher_cache: .* mixes them; set teacher_cache to false$"):
        distill(Seer(), Seer(), rows, mix=train.Mix(Augmentation(mixup=1.0), 2))


# What cannot be


def settings(**losses):
    return Distill(losses=losses or None)


def test_default_weights_are_those_that_can_work():
    answers = {"soft_targets": 1.0, "hard_labels": 0.5}
    assert train.weights_for(settings(), has_hidden=True, cached=False) == answers | {"hidden_cosine": 1.0}
    assert train.weights_for(settings(), has_hidden=False, cached=False) == answers
    assert train.weights_for(settings(), has_hidden=True, cached=True) == answers
    asked = settings(dist=2.0, hard_labels=0.0, feature_maps=0.1)
    assert train.weights_for(asked, has_hidden=False, cached=False) == {"dist": 2.0, "feature_maps": 0.1}


@pytest.mark.parametrize(
    ("losses", "facts", "message"),
    [
        ({"attention": 1.0}, {"has_hidden": False}, r"attention compares attentions, .* remove attention, or take"),
        ({"hidden_cosine": 1.0}, {"has_hidden": False}, r"hidden_cosine compares hidden states, for which both must"),
        ({"feature_maps": 1.0}, {"cached": True}, r"feature_maps compares feature maps, and distill\.teacher_cache"),
        ({"value_relations": 1.0}, {"cached": True}, r"set it to false, or remove value_relations$"),
        ({"dkd": 1.0}, {"problem_type": "multi_label_classification"}, r"dkd is for .* use soft_targets$"),
        ({"dist": 1.0}, {"problem_type": "regression"}, r"dist is for single_label_classification, and the task is"),
        ({"dist": 1.0}, {"problem_type": "causal_lm"}, r"dist is for single_label_classification, and the task is"),
    ],
)
def test_losses_that_cannot_work_are_told_in_one_line(losses, facts, message):
    with pytest.raises(TrainError, match=rf"^distill\.losses: .*{message}") as caught:
        train.weights_for(settings(**losses), **({"has_hidden": True, "cached": False} | facts))
    assert "\n" not in str(caught.value)


def test_answers_of_other_widths_are_told(distill, toys):
    with pytest.raises(TrainError, match=r"^distill: the student answers with 2 numbers a row and the teacher with 3$"):
        distill(toys.Net(), toys.Net(n_labels=3), points(toys))
