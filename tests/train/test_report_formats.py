"""Tables in the terminal, in Markdown, in LaTeX and as comma-separated values."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess

import pytest

from fastcore.train.report import formats, grids, paper
from fastcore.train.report.agreement import agreement
from tests.train.test_report_results import CIFAR, SMALL, config, made, row, rows


def printed(grid, width):
    from rich.console import Console

    console = Console(width=width, file=io.StringIO(), highlight=False, color_system=None)
    for line in formats.terminal(grid, width):
        console.print(line)
    return console.file.getvalue()


def test_terminal(tmp_path):
    text = printed(grids.accuracy(made(tmp_path, rows(SMALL))[0], {}), 100)
    assert "uniform  51.0 ± 1.0    71.0 ± 1.0  90.2 ± 0.2" in text
    assert "herding  41.0 ± 1.0 ▼  71.3 ± 1.0  90.2 ± 0.2" in text


def wide(methods, fractions):
    return {
        method: {
            fraction: [50 + seed + place for seed in range(3)] for place, fraction in enumerate(fractions)
        }
        for method in methods
    }


def test_five_fractions_fit_a_hundred_columns(tmp_path):
    accuracies = wide(["uniform", "contextual_diversity", "el2n"], [0.001, 0.005, 0.01, 0.05, 0.1])
    accuracies["full"] = {1.0: [95, 96, 97]}
    text = printed(grids.accuracy(made(tmp_path, rows(accuracies, experiment=config(**CIFAR)))[0], {}), 100)
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("contextual_diversity") == 1  # in one piece
    assert "…" not in text


def test_what_does_not_fit_is_cut_between_columns(tmp_path):
    accuracies = wide(["uniform", "margin"], [0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.3])
    text = printed(grids.accuracy(made(tmp_path, rows(accuracies))[0], {}), 44)
    assert max(map(len, text.splitlines())) <= 44 and "…" not in text
    assert text.count("margin") == 2
    assert all(f"{50 + place + 1}.0±1.0" in text for place in range(7))


def test_markdown(tmp_path):
    text = formats.markdown(grids.accuracy(made(tmp_path, rows(SMALL))[0], {}))
    assert text.splitlines()[:4] == [
        "| method | 1 % | 10 % | full |",
        "| --- | ---: | ---: | ---: |",
        "| uniform | 51.0 ± 1.0 | 71.0 ± 1.0 | 90.2 ± 0.2 |",
        "| herding | 41.0 ± 1.0 ▼ | 71.3 ± 1.0 | 90.2 ± 0.2 |",
    ]
    assert "| log_det | 61.2 ± 1.3 ▲ |  | 90.2 ± 0.2 |" in text


def test_markdown_formats_nothing_of_a_label(tmp_path):
    (table,) = made(tmp_path, [row("a|b*c*<i>", 0.1, 0, 0.5)])
    assert r"| a\|b\*c\*\<i> | 50.0 |" in formats.markdown(grids.accuracy(table, {}))


HOSTILE = r"50 % of $x_1$ & #2 {a}~^b\c <d> |e| ▲"


def test_latex(tmp_path):
    text = formats.latex(grids.accuracy(made(tmp_path, rows(SMALL))[0], {}))
    assert r"    method & 1 \% & 10 \% & full \\" in text
    assert r"    herding & 41.0$_{\pm 1.0}^{\downarrow}$ & 71.3$_{\pm 1.0}$ & 90.2$_{\pm 0.2}$ \\" in text
    assert r"    log\_det & 61.2$_{\pm 1.3}^{\uparrow}$ &  & 90.2$_{\pm 0.2}$ \\" in text
    assert "▲" not in text and "±" not in text
    assert r"\begin{tabular}{lrrr}" in text


def test_latex_escapes_labels(tmp_path):
    (table,) = made(tmp_path, [row(HOSTILE, 0.1, 0, 0.5)])
    text = formats.latex(grids.accuracy(table, {}))
    line = next(each for each in text.splitlines() if "50.0" in each)
    assert r"50 \% of \$x\_1\$ \& \#2 \{a\}\textasciitilde{}\textasciicircum{}b\textbackslash{}c" in line
    assert len(re.findall(r"(?<!\\)&", line)) == 1
    assert text.count(r"\begin{") == text.count(r"\end{")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(tmp_path):
    accuracies = {**SMALL, HOSTILE: {0.01: [1, 2, 3]}}
    (table,) = made(tmp_path, rows(accuracies, experiment=config(**CIFAR)))
    remarks = paper.notes([("cifar10", "herding")])
    found = [
        grids.accuracy(table, remarks),
        grids.differences(table),
        grids.agreements(agreement(table), remarks),
    ]
    body = "\n".join(formats.latex(grid) for grid in found)
    (tmp_path / "main.tex").write_text(
        rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{body}\end{{document}}"
    )
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "main.tex"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_comma_separated_values(tmp_path):
    results = rows(SMALL)
    text = formats.comma_separated(made(tmp_path, results)[0], made(tmp_path, results, "best")[0])
    lines = list(csv.DictReader(io.StringIO(text)))
    assert len(lines) == 6  # no line for what was not measured, one for all rows
    herding = next(each for each in lines if (each["method"], each["fraction"]) == ("herding", "0.01"))
    expected = {"n": "3", "accuracy_last_mean": "41", "accuracy_last_std": "1", "accuracy_best_mean": "42"}
    expected |= {
        "difference_last": "-10",
        "paper_mean": "",
        "selection_network": "lenet",
        "selection_epochs": "10",
    }
    expected |= {"pretrain_seconds": "30", "signal_seconds": "2.5", "selection_seconds": "0.25"}
    assert {name: herding[name] for name in expected} == expected
    (full,) = (each for each in lines if each["method"] == "full")
    assert (full["fraction"], full["accuracy_last_mean"], full["difference_last"]) == ("1.0", "90.2", "")
    (first,) = (each for each in lines if (each["method"], each["fraction"]) == ("uniform", "0.01"))
    assert (first["selection_network"], first["difference_last"]) == ("", "")
