"""The page about every key of a recipe: `python -m tledge.recipe.reference > docs/recipe.md`."""

from __future__ import annotations

import sys

from tledge import yaml12
from tledge.recipe import keys

_INTRODUCTION = """\
# The recipe

A recipe is one YAML file: the whole job, from labelled data to a measured bundle. This page is made from the
schema by `python -m tledge.recipe.reference`; `tledge schema` writes the same as a JSON schema for editors.

```yaml
# yaml-language-server: $schema=recipe.schema.json
name: reviews
task: text_classification
data:
  train: reviews.csv
  columns: {text: review, label: sentiment}
model:
  backbone: sentence-transformers/all-MiniLM-L6-v2
```

- **Values** are what they look like: `true` and `false`, `null`, numbers (`1e-3` too); all else is text, also
  `yes`, `no`, `on` and `off`. Text that looks like a number needs quotes: `'2024'`. A key that is unknown or
  there twice is an error.
- **Overrides** on the command line replace values of the file: `--set finetune.epochs=5`,
  `--set data.labels=[bad,good]`, `--set finetune.class_weights=null`.
- **Relative paths** start from the recipe's folder, and in an override from the current one; `~` is your
  home. A backbone that names no folder and does not start with `.`, `/` or `~` is a hub id.
- The **resolved recipe** with every default and with absolute paths is kept in the run's folder; it can be
  run again from anywhere.
"""

_ROW = "| `{key}` | {what} | {default} | {description} |"
_HEAD = "| key | what it may be | default | meaning |\n|---|---|---|---|"


def reference() -> str:
    """The page's text in Markdown: one table for the keys on top, and one for each section."""
    parts = [_INTRODUCTION, "## On top\n", *_table(keys.tree())]
    for path, node in keys.every():
        if keys.is_section(node):
            parts += [f"\n## {keys.dotted(path)}\n", f"{node['description']}\n", *_table(node)]
    return "\n".join(parts) + "\n"


def _table(section: keys.Node) -> list[str]:
    required = section.get("required", [])
    rows = []
    for key, node in section["properties"].items():
        what = keys.describe(node)
        if keys.is_section(node):
            what = "a section, see below" + keys.is_optional(node) * "; none by default"
        default = "" if keys.is_section(node) else f"`{yaml12.inline(node.get('default'))}`"
        rows.append(
            _ROW.format(
                key=key,
                what=_cell(what),
                default="required" if key in required else _cell(default),
                description=_cell(node["description"]),
            )
        )
    return [_HEAD, *rows]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
