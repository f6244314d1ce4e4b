"""`tledge curve` on a tiny project: its points, going on, and what it refuses."""

from __future__ import annotations

import json

import pytest
from test_cli_main import one_line
from tiny_project import call

from tledge.artifacts import read_json

FEW = ("--set", "finetune.strategy=few_shot", "--set", "finetune.epochs=1")
FROZEN = (*FEW, "--set", "finetune.few_shot.tune=none")


def curve(capfd, project, *arguments):
    done = call(capfd, "curve", project, "--out", project.parent / "run", *arguments)
    assert done.code == 0, done.err
    return done


def values(project):
    return {p["shots"]: p["values"] for p in read_json(project.parent / "run" / "curve" / "curve.json")["points"]}


def test_more_rows_are_better_and_what_was_measured_is_kept(project, capfd):
    done = curve(capfd, project, "--shots", "8,1", "--seeds", "2", *FROZEN)
    assert "rows of each label" in done.out and "curve.html" in done.out
    first = values(project)
    assert [len(each) for each in first.values()] == [2, 2]
    path = project.parent / "run" / "curve" / "curve.json"
    kept = read_json(path)
    kept["points"][0]["values"] = [0.123, 0.456]  # what is there is not measured again
    path.write_text(json.dumps(kept))
    told = json.loads(curve(capfd, project, "--shots", "1,8", "--seeds", "3", "--json", *FROZEN).out)
    assert told["points"][0]["values"][:2] == [0.123, 0.456]
    assert len(told["points"][0]["values"]) == 3
    assert told["points"][1]["values"][:2] == first[8]
    assert told["answer"][0].startswith("With 8 rows of each label accuracy is")
    assert (told["n_test"], told["n_labels"], told["strategy"]) == (18, 3, "few_shot")
    assert not (project.parent / "run" / "curve" / "work").exists()
    # another recipe is measured anew
    curve(capfd, project, "--shots", "1", "--seeds", "1", *FROZEN, "--set", "finetune.few_shot.head=prototypes")
    assert values(project)[1] != [0.123]


@pytest.mark.parametrize("settings", [FEW, ("--set", "finetune.strategy=probe", "--set", "finetune.epochs=2"), ()])
def test_whatever_trains_has_a_curve(settings, project, capfd):
    curve(capfd, project, "--shots", "2", "--seeds", "1", "--set", "finetune.epochs=1", *settings)
    [[value]] = values(project).values()
    assert 0 <= value <= 1


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["--shots", "1,two"], 9, ["--shots", "whole numbers", "'1,two'"]),
        (["--shots", "0"], 9, ["--shots"]),
        (["--shots", "1,900"], 3, ["--shots: asks for 900 rows of each label, but 'heat' has 18", "18 or fewer"]),
        (["--set", "finetune.strategy=none", "--set", "finetune.epochs=1"], 2, ["learns from no labelled row"]),
        (["--set", "task=text_multilabel"], 2, ["task", "one label", "text_multilabel"]),
    ],
)
def test_mistakes(arguments, code, parts, project, capfd):
    done = call(capfd, "curve", project, "--out", project.parent / "run", *arguments)
    done.err = "".join(line for line in done.err.splitlines(keepends=True) if not line.startswith("data: "))
    one_line(done, code, *parts)
