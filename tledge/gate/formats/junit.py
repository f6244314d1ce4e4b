"""JUnit's XML, in the form that Jenkins, GitLab and most others read: each finding is one test case."""

from __future__ import annotations

import datetime
from collections import Counter
from xml.etree import ElementTree

from tledge.artifacts import ANOMALOUS, INCONCLUSIVE, REGRESSION, Finding, Verdict
from tledge.gate import formats

_ELEMENTS = {REGRESSION: "failure", ANOMALOUS: "error", INCONCLUSIVE: "skipped"}


def render(verdict: Verdict) -> str:
    """The verdict as XML: a REGRESSION is a failure, ANOMALOUS an error, and INCONCLUSIVE a skipped test.

    Follows the schema of the Jenkins xUnit plugin (`junit-10.xsd`).
    """
    cases = formats.findings(verdict)
    count = Counter(finding.verdict for finding in cases)
    totals = {"tests": len(cases), "failures": count[REGRESSION], "errors": count[ANOMALOUS]}
    attributes = {name: str(value) for name, value in totals.items()}
    name = _text(f"tledge gate {verdict.name}".rstrip())
    root = ElementTree.Element("testsuites", {"name": name, **attributes})
    suite = ElementTree.SubElement(root, "testsuite", {"name": name, **attributes, "skipped": str(count[INCONCLUSIVE])})
    if moment := _moment(verdict.created):
        suite.set("timestamp", moment)
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in _properties(verdict).items():
        ElementTree.SubElement(properties, "property", {"name": key, "value": _text(value)})
    names: Counter[str] = Counter()
    for finding in cases:
        _case(suite, finding, verdict.name, names)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _case(suite: ElementTree.Element, finding: Finding, bundle: str, names: Counter[str]) -> None:
    """One test case; a title that was there before gets a number, since readers merge cases of one name."""
    title = formats.title(finding)
    names[title] += 1
    name = title if names[title] == 1 else f"{title} ({names[title]})"
    where = f"tledge.gate.{bundle.replace('.', '_') or 'bundle'}"
    case = ElementTree.SubElement(suite, "testcase", {"classname": _text(where), "name": _text(name), "time": "0"})
    if finding.verdict in _ELEMENTS:
        said = {"message": _text(finding.reason), "type": finding.verdict}
        ElementTree.SubElement(case, _ELEMENTS[finding.verdict], said).text = _text(_details(finding))
    else:
        ElementTree.SubElement(case, "system-out").text = _text(_details(finding))


def _details(finding: Finding) -> str:
    figures = {"allowed": formats.allowed(finding), "measured": formats.measured(finding)}
    return "\n".join([finding.reason, *(f"{name}: {value}" for name, value in figures.items() if value)])


def _properties(verdict: Verdict) -> dict[str, str]:
    named = {"verdict": verdict.verdict, "version": verdict.version, "against": verdict.against}
    machine = formats.machine(verdict.bench.machine) if verdict.bench else {}
    return {name: value for name, value in (named | machine).items() if value}


def _moment(created: str) -> str:
    """The moment in UTC without a zone, which the format knows no place for; empty where it cannot be read."""
    try:
        parsed = datetime.datetime.fromisoformat(created)
    except ValueError:
        return ""
    return (parsed.astimezone(datetime.UTC) if parsed.tzinfo else parsed).strftime("%Y-%m-%dT%H:%M:%S")


def _text(text: str) -> str:
    return formats.printable(text)
