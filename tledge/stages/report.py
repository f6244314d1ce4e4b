"""The stage `report`: everything that was found out, as HTML, Markdown and JSON."""

from __future__ import annotations

from pathlib import Path

from tledge import evidence
from tledge.artifacts import write_json
from tledge.stages.job import Job


def stage(job: Job, folder: Path) -> str:
    """Write the report as HTML, Markdown and JSON."""
    from tledge import report

    facts = evidence.facts(job.recipe, job.folder)
    (folder / "report.html").write_text(report.html(facts), encoding="utf-8")
    (folder / "report.md").write_text(report.markdown(facts), encoding="utf-8")
    write_json(folder / "facts.json", facts)
    return report.verdict(facts)
