"""Run the steps of one of the workflows beside this file here, without its forge.

    python docs/ci/run_locally.py docs/ci/github-actions.yml --new BUNDLE --old BUNDLE --budget budget.yaml

The workflow's structure is checked first: its keys, a version behind every `uses`, and the syntax of every script. Then
the scripts of the job `gate` run in their order, in a folder that has the two bundles and the budget where the workflow
expects them, and with the shell that the forge takes. Left out, and said to be: what `uses` an action, what installs
packages, and what talks to the forge (ids that start with `install-` or `forge-`, jobs that start with `forge-`, and
`before_script`). The exit code is that of the first script that fails. `tledge` is the one first on the PATH.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tledge import yaml12

GITHUB_KEYS = {"name", "on", "permissions", "concurrency", "defaults", "env", "jobs"}
GITHUB_JOB = {"runs-on", "timeout-minutes", "permissions", "steps", "needs", "if"}
GITHUB_STEP = {"name", "id", "uses", "with", "run", "env", "if"}
GITLAB_KEYS = {"stages", "workflow", "variables"}
GITLAB_JOB = {
    "stage", "image", "timeout", "resource_group", "before_script", "script", "retry", "allow_failure", "cache",
    "artifacts", "needs", "rules", "variables",
}  # fmt: skip
ELSEWHERE = ("install-", "forge-")
"""What the ids of steps start with that install packages or talk to the forge."""
_USES = re.compile(r"[\w.-]+/[\w./-]+@(v\d+(\.\d+)*|[0-9a-f]{40})")
_ALWAYS = "${{ !cancelled() }}"


@dataclass(frozen=True)
class Step:
    """One script; `left_out` says why it does not run here, `always` that it runs after a failure too."""

    job: str
    name: str
    script: str
    left_out: str = ""
    always: bool = False


@dataclass(frozen=True)
class Workflow:
    """The steps of all jobs and the variables that they have in common, and which forge it is for."""

    path: Path
    forge: str
    env: Mapping[str, str]
    steps: tuple[Step, ...]


def read(path: Path) -> Workflow:
    """A workflow of GitHub or GitLab whose structure was checked.

    Raises:
        ValueError: a key is not known, a `uses` has no version, a script is none, or an expression is inside one.
    """
    values, _ = yaml12.read(path.read_text(encoding="utf-8"), lambda line, column: f"{path}:{line}:{column}")
    workflow = _github(path, values) if "jobs" in values else _gitlab(path, values)
    for step in workflow.steps:
        if "${{" in step.script:
            raise ValueError(f"{path}: {step.name}: an expression inside a script; hand it over in `env`")
        checked = subprocess.run(["bash", "-n"], input=step.script, text=True, capture_output=True, check=False)
        if checked.returncode:
            raise ValueError(f"{path}: {step.name}: {checked.stderr.strip()}")
    return workflow


def run(workflow: Workflow, folder: Path, env: Mapping[str, str]) -> Iterator[tuple[Step, int | None]]:
    """Every step with its exit code, `None` for one that was left out; after a failure only what runs always."""
    shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail"]
    failed = False
    for step in workflow.steps:
        if step.left_out or (failed and not step.always):
            yield step, None
            continue
        code = subprocess.run(
            [*shell, "-c", step.script], cwd=folder, env={**env, **workflow.env}, check=False
        ).returncode
        failed = failed or code != 0
        yield step, code


def prepare(workflow: Workflow, folder: Path, *, new: Path, old: Path, budget: Path) -> dict[str, str]:
    """The bundles and the budget where the workflow expects them, and the environment that the forge would give."""
    for name, source in (("NEW", new), ("OLD", old)):
        shutil.copytree(source, folder / workflow.env[name])
    (folder / workflow.env["BUDGET"]).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(budget, folder / workflow.env["BUDGET"])
    github = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(folder / "summary.md"), "RUNNER_TEMP": str(folder)}
    gitlab = {"GITLAB_CI": "true", "CI_PROJECT_DIR": str(folder)}
    forge = github if workflow.forge == "github" else gitlab
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "CI_", "GITLAB_"))
    }
    return {**inherited, "CI": "true", **forge}


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of the first script that fails, 0 where none does."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("workflow", type=Path)
    for name in ("--new", "--old", "--budget"):
        parser.add_argument(name, type=Path, required=True)
    given = parser.parse_args(arguments)
    workflow = read(given.workflow)
    first = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        env = prepare(workflow, folder, new=given.new, old=given.old, budget=given.budget)
        for step, code in run(workflow, folder, env):
            told = (
                f"exit code {code}" if code is not None else f"left out: {step.left_out or 'a step before it failed'}"
            )
            sys.stdout.write(f"{step.job} / {step.name}: {told}\n")
            first = first or code or 0
    return first


def _github(path: Path, values: dict[str, Any]) -> Workflow:
    _known(path, "on top", values, GITHUB_KEYS)
    steps = []
    for job, body in values["jobs"].items():
        _known(path, job, body, GITHUB_JOB)
        for body_of_step in body["steps"]:
            _known(path, job, body_of_step, GITHUB_STEP)
            steps.append(_github_step(path, job, body_of_step))
    return Workflow(path, "github", dict(values.get("env", {})), tuple(steps))


def _github_step(path: Path, job: str, step: dict[str, Any]) -> Step:
    name = step.get("name") or step.get("uses", "a step without a name")
    if ("uses" in step) == ("run" in step):
        raise ValueError(f"{path}: {name}: expected either `uses` or `run`")
    condition = step.get("if", "")
    if "uses" in step:
        if not _USES.fullmatch(step["uses"]):
            raise ValueError(f"{path}: {step['uses']}: expected OWNER/NAME@vN or a commit")
        return Step(job, name, "", f"uses {step['uses']}")
    if step.get("id", "").startswith(ELSEWHERE):
        return Step(job, name, step["run"], "installs packages or talks to the forge")
    if condition not in ("", _ALWAYS) or "env" in step:
        raise ValueError(f"{path}: {name}: a step that runs anywhere has no condition of the forge and no `env`")
    return Step(job, name, step["run"], always=condition == _ALWAYS)


def _gitlab(path: Path, values: dict[str, Any]) -> Workflow:
    steps = []
    for job, body in values.items():
        if job in GITLAB_KEYS:
            continue
        if not isinstance(body, dict) or "script" not in body:
            raise ValueError(f"{path}: {job!r} is neither a known key nor a job with a script")
        _known(path, job, body, GITLAB_JOB)
        if body["stage"] not in values["stages"]:
            raise ValueError(f"{path}: {job}: the stage {body['stage']!r} is not among the stages")
        forge = job.startswith(ELSEWHERE)
        before = "\n".join(body.get("before_script", ()))
        steps.append(Step(job, "before_script", before, "installs packages or talks to the forge"))
        steps.append(Step(job, "script", "\n".join(body["script"]), "talks to the forge" if forge else ""))
    return Workflow(path, "gitlab", dict(values.get("variables", {})), tuple(steps))


def _known(path: Path, where: str, values: Mapping[str, Any], known: set[str]) -> None:
    if unknown := set(values) - known:
        raise ValueError(f"{path}: {where}: the keys {', '.join(sorted(unknown))} are not known")


if __name__ == "__main__":
    sys.exit(main())
