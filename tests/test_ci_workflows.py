"""The workflows of `docs/ci`: their structure, and their scripts run here in order, with a stub and with tledge."""

import importlib.util
import json
import os
import re
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

CI = Path(__file__).parents[1] / "docs" / "ci"
WORKFLOWS = ["github-actions.yml", "gitlab-ci.yml"]
STUB = r"""#!/usr/bin/env bash
echo "$@" >> "$CALLS"
while [ $# -gt 0 ]; do
  case "$1" in
    --junit | --markdown | --json | --benchmark-json | --bencher-json | --history) echo "<!-- stub -->" > "$2" ;;
    gate) gate=1 ;;
  esac
  shift
done
if [ -z "$gate" ]; then exit "${VERIFY:-0}"; fi
code="$(head -n 1 "$CODES")"
sed -i 1d "$CODES"
exit "$code"
"""

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the scripts are for bash")


def _load():
    spec = importlib.util.spec_from_file_location("run_locally", CI / "run_locally.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["run_locally"] = module
    spec.loader.exec_module(module)
    return module


run_locally = _load()


def program(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


@pytest.fixture
def stubbed(tmp_path, monkeypatch):
    """Runs a workflow with a `tledge` that ends with the given codes; gives the steps' codes and its commands."""
    program(tmp_path / "bin", "tledge", STUB)
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
    (tmp_path / "budget.yaml").write_text("size_mb: 1\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("CODES", str(tmp_path / "codes"))

    def run(name, *codes):
        (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
        workflow = run_locally.read(CI / name)
        folder = tmp_path / "folder"
        folder.mkdir()
        given = {key: tmp_path / key for key in ("new", "old")}
        env = run_locally.prepare(workflow, folder, **given, budget=tmp_path / "budget.yaml")
        steps = [(step.name, code) for step, code in run_locally.run(workflow, folder, env) if not step.left_out]
        return steps, (tmp_path / "calls").read_text().splitlines(), folder

    return run


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_structure_is_sound_and_something_is_left_to_run(name):
    steps = run_locally.read(CI / name).steps
    here = [step for step in steps if not step.left_out]
    assert any("tledge gate" in step.script for step in here)
    assert any("tledge verify" in step.script for step in here)
    assert all(step.left_out for step in steps if re.search(r"\b(pip|apk|curl|gh)\b", step.script))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("actions/checkout@v5", "actions/checkout@main", "expected OWNER/NAME@vN or a commit"),
        ("actions/checkout@v5", "actions/checkout", "expected OWNER/NAME@vN or a commit"),
        ("concurrency:", "concurency:", "the keys concurency are not known"),
        ('tledge verify "$OLD"', "tledge verify ${{ env.OLD }}", "an expression inside a script"),
        ("for attempt in 1 2; do", "for attempt in 1 2", "syntax error"),
        ("    timeout-minutes: 20", "    timeout: 20", "gate: the keys timeout are not known"),
    ],
)
def test_a_broken_workflow_is_refused(tmp_path, old, new, said):
    text = (CI / "github-actions.yml").read_text()
    assert old in text
    (tmp_path / "github-actions.yml").write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=re.escape(said)):
        run_locally.read(tmp_path / "github-actions.yml")


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_commands_are_the_documented_ones(stubbed, name):
    steps, calls, folder = stubbed(name, 0)
    assert {code for _, code in steps} == {0}
    assert calls[:2] == ["verify released/bundle", "verify model/bundle"]
    dashboard = "--benchmark-json gate/benchmark.json" if "github" in name else "--bencher-json gate/bencher.json"
    assert calls[2:] == [
        "gate model/bundle --budget model/budget.yaml --against released/bundle --junit gate/junit.xml --markdown "
        f"gate/comment.md --json gate/verdict.json {dashboard} --history history/history.jsonl"
    ]
    assert (folder / "gate" / "junit.xml").exists()


@pytest.mark.parametrize("name", WORKFLOWS)
@pytest.mark.parametrize("code", [2, 8, 11, 12])
def test_a_regression_or_a_mistake_fails_at_once(stubbed, name, code):
    steps, calls, _ = stubbed(name, code, 0)
    assert steps[-1][1] == code
    assert len(calls) == 3


def test_github_tries_inconclusive_once_more_and_then_warns(stubbed, capfd):
    steps, calls, _ = stubbed("github-actions.yml", 13, 13)
    assert steps[-1] == ("Gate", 0)
    assert len(calls) == 4
    assert "::warning title=tledge gate::INCONCLUSIVE in 2 runs." in capfd.readouterr().out


def test_github_takes_the_second_verdict_after_an_inconclusive_one(stubbed, capfd):
    steps, _, _ = stubbed("github-actions.yml", 13, 11)
    assert steps[-1] == ("Gate", 11)
    assert "warning" not in capfd.readouterr().out


def test_gitlab_leaves_inconclusive_to_its_own_rules(stubbed):
    steps, _, _ = stubbed("gitlab-ci.yml", 13)
    assert steps[-1][1] == 13
    values, _ = run_locally.yaml12.read((CI / "gitlab-ci.yml").read_text(), lambda line, column: f"{line}:{column}")
    assert values["gate"]["allow_failure"] == {"exit_codes": [13]}
    assert values["gate"]["retry"] == {"max": 1, "exit_codes": [13]}


def test_a_bundle_that_does_not_verify_is_not_gated(stubbed, monkeypatch):
    monkeypatch.setenv("VERIFY", "8")
    steps, calls, _ = stubbed("github-actions.yml", 0)
    assert steps == [("Verify both bundles", 8), ("Gate", None)]
    assert len(calls) == 1


@pytest.mark.parametrize(("found", "method"), [("", "POST"), ("41\n42", "PATCH")])
def test_githubs_comment_is_made_once_and_then_updated(tmp_path, monkeypatch, found, method):
    program(
        tmp_path / "bin",
        "gh",
        f'#!/usr/bin/env bash\necho "$@" >> calls\ncase "$2" in --paginate) echo "{found}" ;; esac\n',
    )
    workflow = run_locally.read(CI / "github-actions.yml")
    (step,) = [step for step in workflow.steps if step.name == "Comment on the pull request"]
    (tmp_path / "gate").mkdir()
    (tmp_path / "gate" / "comment.md").write_text("## ACCEPT: a\n\n<!-- tledge gate a -->\n")
    env = {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "GITHUB_REPOSITORY": "o/r", "NUMBER": "7"}
    here = run_locally.Workflow(
        workflow.path, workflow.forge, {}, (run_locally.Step(step.job, step.name, step.script),)
    )
    assert [code for _, code in run_locally.run(here, tmp_path, env)] == [0]
    listing, change = (tmp_path / "calls").read_text().splitlines()
    assert 'contains("<!-- tledge gate a -->")' in listing
    where = "issues/comments/42" if found else "issues/7/comments"
    assert change == f"api --method {method} repos/o/r/{where} --field body=@gate/comment.md --silent"


def test_the_script_says_what_it_left_out(stubbed, tmp_path, capfd):
    (tmp_path / "codes").write_text("11\n")
    given = [f"--{key}={tmp_path / key}" for key in ("new", "old")]
    code = run_locally.main([str(CI / "github-actions.yml"), *given, f"--budget={tmp_path / 'budget.yaml'}"])
    told = capfd.readouterr().out
    assert code == 11
    assert "gate / actions/checkout@v5: left out: uses actions/checkout@v5" in told
    assert "gate / Install tledge: left out: installs packages or talks to the forge" in told
    assert "gate / Gate: exit code 11" in told


@pytest.mark.skipif(importlib.util.find_spec("tledge.cli.gate") is None, reason="tledge gate is not there yet")
@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_scripts_run_with_tledge_itself(tiny_bundle, tmp_path, monkeypatch, name):
    program(tmp_path / "bin", "tledge", f'#!/usr/bin/env bash\nexec "{sys.executable}" -m tledge "$@"\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "budget.yaml").write_text("size_mb: 10\n")
    workflow = run_locally.read(CI / name)
    folder = tmp_path / "folder"
    folder.mkdir()
    env = run_locally.prepare(workflow, folder, new=tiny_bundle, old=tiny_bundle, budget=tmp_path / "budget.yaml")
    codes = [code for step, code in run_locally.run(workflow, folder, env) if not step.left_out]
    assert set(codes) <= {0, 13}  # a busy host may make it inconclusive
    ElementTree.parse(folder / "gate" / "junit.xml")
    assert (folder / "gate" / "comment.md").read_text().splitlines()[-1].startswith("<!-- tledge gate ")
    assert json.loads((folder / "gate" / "verdict.json").read_text())["verdict"]
    assert (folder / "history" / "history.jsonl").read_text().count("\n") >= 1
    if "github" in name:
        assert (folder / "gate" / "comment.md").read_text() in (folder / "summary.md").read_text()
