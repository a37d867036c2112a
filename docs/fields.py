"""Writes the tables of settings in docs/training.md from the docstrings of the dataclasses.

    .venv/bin/python docs/fields.py

The tests fail while what is written here differs from the file.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

from fastcore.train import config

GUIDE = Path(__file__).resolve().parent / "training.md"
TABLE = re.compile(r"(<!-- fields: (\w+) -->\n)(.*?)(<!-- /fields -->)", re.DOTALL)


def main() -> None:
    """Writes the file."""
    GUIDE.write_text(written(GUIDE.read_text()))


def written(text: str) -> str:
    """A text with all its tables as they should be."""
    return TABLE.sub(lambda found: found[1] + table(getattr(config, found[2])) + found[4], text)


def table(kind: Any) -> str:
    """The fields of a dataclass in Markdown: name, default, meaning."""
    lines = ["| field | default | |", "|---|---|---|"]
    meanings = docstrings(kind)
    for field in dataclasses.fields(kind):
        lines.append(f"| `{field.name}` | {default(field)} | {meanings[field.name]} |")
    return "\n".join(lines) + "\n"


def docstrings(kind: Any) -> dict[str, str]:
    """What stands below each field."""
    body = ast.parse(inspect.getsource(kind)).body[0].body  # type: ignore[attr-defined]
    found = {}
    for field, after in zip(body, body[1:]):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr):
            text = " ".join(inspect.cleandoc(after.value.value).split())  # type: ignore[attr-defined]
            found[field.target.id] = text.replace("``", "`").replace("|", "\\|")  # type: ignore[union-attr]
    return found


def default(field: dataclasses.Field[Any]) -> str:
    """A default as it is written in YAML."""
    from fastcore.train.reading import plain

    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        return "needed"
    value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    if dataclasses.is_dataclass(value):
        return "see below"
    value = plain(value)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = [each["name"] for each in value]
    return f"`{yaml(value)}`"


def yaml(value: Any) -> str:
    """A value on one line of YAML."""
    words = {True: "true", False: "false", None: "null", "": '""'}
    if isinstance(value, bool | str | None):
        return words.get(value, str(value))
    if isinstance(value, list):
        return f"[{', '.join(map(yaml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {yaml(each)}' for name, each in value.items())}}}"
    return str(value)


if __name__ == "__main__":
    main()
