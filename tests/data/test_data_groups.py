"""`data.group`: all rows of one value are in one split, with about the sizes and shares that were asked for."""

from __future__ import annotations

import numpy as np
import pytest

from tledge.data.splits import cut_whole

HEAD = "text,label,patient\n"
SPLITS = ("train", "validation", "calibration", "test")


def line(i, patient):
    return f"visit number {i},{'ill' if i % 3 == 0 else 'well'},{patient}\n"


def patients(splits, of):
    """The patients of each split, known by the text's number."""
    return {name: {of[int(text.split()[-1])] for text in getattr(splits, name)["text"]} for name in SPLITS}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_group_is_in_one_split_and_shares_are_about_those_asked_for(write, run, seed):
    of = [f"p{i * i % 59}" for i in range(600)]
    write("rows.csv", HEAD + "".join(line(i, patient) for i, patient in enumerate(of)))
    splits = run(group="patient", test=0.2, validation=0.15, calibration=40, seed=seed)
    found = patients(splits, of)
    assert sum(map(len, found.values())) == len(set(of)) == len(set().union(*found.values()))
    assert splits.report.groups == {name: len(found[name]) for name in SPLITS}
    for name, count in (("test", 120), ("validation", 90), ("calibration", 40)):
        assert abs(splits.report.rows[name] - count) <= 12, "groups have some ten rows"
        share = splits.report.label_counts[name]["ill"] / splits.report.rows[name]
        assert 0.15 < share < 0.5, "a third of all rows"


def test_the_seed_decides_which_groups(write, run):
    of = [f"p{i % 40}" for i in range(200)]
    write("rows.csv", HEAD + "".join(line(i, patient) for i, patient in enumerate(of)))
    first, again, other = (run(group="patient", seed=seed, folder=f"out{i}") for i, seed in enumerate((1, 1, 2)))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert patients(first, of)["test"] != patients(other, of)["test"]


def test_strata_decide_among_groups_of_one_size():
    strata = np.repeat([0, 1], 50)  # each group of five rows has one label
    kept, cut = cut_whole(np.arange(100), strata, np.arange(100) // 5, 20, of=100, seed=4, key="data.test")
    assert np.bincount(strata[cut]).tolist() == [10, 10]
    assert sorted([*kept, *cut]) == list(range(100))


def test_a_group_of_the_users_own_test_file_is_refused_or_dropped(write, run, complaint):
    write("rows.csv", HEAD + "".join(line(i, f"p{i % 20}") for i in range(100)))
    write("test.csv", HEAD + line(900, "p3") + line(901, "new"))
    assert complaint(group="patient", test="test.csv") == (
        "5 train rows have the patient (data.group) of a test row, such as rows.csv:5 = test.csv:2, rows.csv:25 = "
        "test.csv:2, rows.csv:45 = test.csv:2; take them out of one file, or set data.on_overlap: drop to leave them "
        "out of the train rows"
    )
    report = run(group="patient", test="test.csv", on_overlap="drop").report
    assert (report.overlap_dropped, report.rows["test"]) == (5, 2)
    assert report.groups["train"] + report.groups["validation"] == 19


def test_what_groups_do_not_allow(write, complaint):
    write("rows.csv", HEAD + "".join(line(i, "one" if i else "two") for i in range(90)))
    assert complaint(group="patient") == (
        "data.test: asks for about 18 of 90 rows, which whole groups do not come near: data.group has 2 here, the "
        "largest with 89 rows; ask for another part, or give a file of your own"
    )
    assert complaint(group="patients") == (
        "data.group: rows.csv has no column 'patients'; its columns are 'text', 'label', 'patient'; did you mean "
        "'patient'?"
    )
    write("rows.csv", HEAD + "one,ill, \n")
    assert complaint(group="patient").startswith(
        "rows.csv:2: the column 'patient' is empty, but it is data.group; mend"
    )
