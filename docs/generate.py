"""Writes what the registry and the docstrings say of the methods: a page each, and the table in the README.

    .venv/bin/python docs/generate.py

The tests fail while what is written here differs from the files.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import fastcore
from fastcore.registry import Method

DOCS = Path(__file__).resolve().parent
README = DOCS.parent / "README.md"
TABLE = re.compile(r"(<!-- methods:.*?-->\n)(.*?)(<!-- /methods -->)", re.DOTALL)

NEEDS = {
    "similarity": "features, gradients, or a matrix of pairs",
    "features": "features",
    "probabilities": "class probabilities",
    "gradients": "last-layer gradients",
    "dynamics": "a record of training",
    "error_norms": "error norms",
    "gradient_norms": "gradient norms",
    "boundary_distances": "distances to the decision boundary",
}
EXAMPLES = {
    "similarity": '{name} = fastcore.select("{name}", features, 100)\n'
    '{name} = fastcore.select("{name}", model=network, dataset=train, fraction=0.1)',
    "probabilities": '{name} = fastcore.select("{name}", probabilities, 100)\n'
    '{name} = fastcore.select("{name}", model=network, dataset=train, fraction=0.1)',
    "features": '{name} = fastcore.select("{name}", fastcore.Signals(embeddings=features, logits=logits), 100)\n'
    '{name} = fastcore.select("{name}", model=network, dataset=train, fraction=0.1)',
    "gradients": '{name} = fastcore.select("{name}", fastcore.LastLayerGradients(delta, h), 100{more})\n'
    '{name} = fastcore.select("{name}", model=network, dataset=train, fraction=0.1{set})',
    "dynamics": '{name} = fastcore.select("{name}", recorder.dynamics, 100)',
    "error_norms": '{name} = fastcore.select("{name}", recorder.dynamics, 100, epoch=10)\n'
    '{name} = fastcore.select("{name}", model=[first, second], dataset=train, fraction=0.1)',
    "gradient_norms": '{name} = fastcore.select("{name}", fastcore.LastLayerGradients(delta, h), 100)\n'
    '{name} = fastcore.select("{name}", model=[first, second], dataset=train, fraction=0.1, layers="all")',
    "boundary_distances": '{name} = fastcore.select("{name}", model=network, dataset=train, fraction=0.1)',
}


def main() -> None:
    """Writes all files."""
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    for stale in set((DOCS / "methods").glob("*.md")) - set(files()):
        stale.unlink()


def files() -> dict[Path, str]:
    """What each file should hold."""
    methods = [fastcore.get_method(name) for name in fastcore.list_methods()]
    pages = {DOCS / "methods" / f"{method.name}.md": page(method) for method in methods}
    readme = TABLE.sub(lambda found: found[1] + table(methods) + found[3], README.read_text())
    return pages | {README: readme}


def table(methods: list[Method]) -> str:
    """The table of methods in Markdown."""
    lines = ["| method | what it picks | needs | order | weights | cost |", "|---|---|---|---|---|---|"]
    for method in methods:
        cells = [
            f"[`{method.name}`](docs/methods/{method.name}.md)",
            method.summary.rstrip("."),
            needs(method),
            order(method),
            {"none": "–", "cluster": "rows that it stands for", "own": "fitted"}[method.weights],
            method.cost,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def page(method: Method) -> str:
    """The page of one method."""
    summary, _, body = (inspect.getdoc(method.function) or "").partition("\n")
    options = method.options | method.signal_options
    facts = {
        "Needs": needs(method),
        "Order": order(method)
        + (", a prefix is the selection for a smaller budget" if method.prefix else ""),
        "Weights": {
            "none": 'on request, `weights="cluster"`' if method.metrics else "none",
            "cluster": "the number of rows that each pick stands for; they sum to n",
            "own": "fitted by the method",
        }[method.weights],
        "Metrics": ", ".join(method.metrics) + ", the first by default" if method.metrics else "",
        "Validation rows": "" if method.validation == "no" else method.validation,
        "Options": ", ".join(f"`{name}={default!r}`" for name, default in options.items()),
        "Cost": method.cost,
        "Paper": method.paper,
    }
    lines = [f"# {method.name}", "", "<!-- written by docs/generate.py from the docstring -->", "", summary]
    lines += ["", markdown(body.strip()), "", "```python", example(method), "```", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {cell(text)} |" for name, text in facts.items() if text]
    return "\n".join([*lines, "", "[All methods](../../README.md#methods)", ""])


def example(method: Method) -> str:
    """A call or two."""
    need = method.needs[0] if method.needs else "similarity"
    required = method.validation == "required"
    more, of_set = (", validation=held_out", ", validation=test") if required else ("", "")
    text = EXAMPLES[need].format(name=method.name, more=more, set=of_set)
    if not method.needs:
        text = text.splitlines()[0]
    return "import fastcore\n\n" + text.replace(f"{method.name} = ", "chosen = ")


def needs(method: Method) -> str:
    """What a method looks at, in words."""
    words = " and ".join(NEEDS[need] for need in method.needs) or "only the number of rows"
    return (
        words
        + {"no": "", "optional": "; validation gradients if given", "required": "; validation gradients"}[
            method.validation
        ]
    )


def order(method: Method) -> str:
    """What the order of the picks means, in words."""
    if method.order == "score":
        return f"by score, hard is {method.hard}"
    return method.order


def markdown(text: str) -> str:
    """A docstring as Markdown: indented lines, its formulas, become blocks of code."""
    parts = re.split(r"\n\s*\n", text)
    blocks = [f"```\n{inspect.cleandoc(part)}\n```" if part.startswith("    ") else part for part in parts]
    return "\n\n".join(block.replace("``", "`") if "```" not in block else block for block in blocks)


def cell(text: str) -> str:
    """Text that a cell of a table can hold."""
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    main()
