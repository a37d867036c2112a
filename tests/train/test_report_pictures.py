"""The pictures of a report: PNG files of a sensible size that show what was measured, and nothing twice."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from fastcore import figures
from fastcore.train.config import DataConfig, SelectionConfig
from fastcore.train.report import accuracy_plot, contact_sheet, style, time_plot
from fastcore.train.report.tables import tables
from tests.train.test_report_results import SMALL, config, read, row, rows, write

pytest.importorskip("matplotlib")
Image = pytest.importorskip("PIL.Image")

import fastcore  # noqa: E402

COLOURS = {"graph_cut": (0, 114, 178), "margin": (213, 94, 0), "herding": (0, 158, 115)}


def pixels(figure):
    """A figure as (h, w, 3) uint8."""
    (content,) = figures.drawn(figure, ("png",)).values()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def shows(picture, colour):
    """How many pixels have a colour, nearly."""
    return int((np.abs(picture.astype(int) - colour).max(2) < 8).sum())


def table(tmp_path, results):
    return tables(read([write(tmp_path / "experiment", results)]))[0]


# ---- accuracy -----------------------------------------------------------------------------------


def test_accuracy_shows_every_method_in_its_panel(tmp_path):
    results = {
        name: {0.01: [50, 52], 0.1: [70 + place, 72]}
        for place, name in enumerate(["uniform", "herding", "margin", "graph_cut"])
    }
    figure = accuracy_plot.plot(table(tmp_path, rows({**results, "full": {1.0: [90, 91]}})))
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == ["herding", "margin", "graph_cut"]
    for axes in panels:
        reference, line = (
            each for each in axes.lines if len(each.get_xdata()) == 2 and each.get_color() != figures.PALE
        )
        assert reference.get_ydata().tolist() == [51, 71]
        assert line.get_xdata().tolist() == [1, 10]
        assert axes.get_xscale() == "log"
    assert panels[2].lines[2].get_ydata().tolist() == [51, 72.5]
    picture = pixels(figure)
    assert 700 < picture.shape[1] < 1800 and 300 < picture.shape[0] < 800
    assert all(shows(picture, colour) > 200 for colour in COLOURS.values())
    assert (picture > 250).mean() > 0.5  # a page, not a blot


def test_accuracy_leaves_out_what_was_not_measured(tmp_path):
    accuracies = {"uniform": {0.01: [50], 0.05: [60], 0.1: [70]}, "margin": {0.01: [40], 0.1: [65]}}
    figure = accuracy_plot.plot(table(tmp_path, rows(accuracies)))
    lines = [line for line in figure.axes[0].lines if line.get_color() == "#D55E00"]
    assert [line.get_xdata().tolist() for line in lines] == [[1, 10]]


def test_accuracy_has_the_papers_numbers_as_circles(tmp_path):
    paper = config(data=DataConfig(name="cifar10"), networks=("resnet18",))
    accuracies = {"uniform": {0.01: [37], 0.1: [75]}, "margin": {0.01: [30], 0.1: [60]}}
    figure = accuracy_plot.plot(table(tmp_path, rows(accuracies, experiment=paper)))
    circles = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "none"]
    assert [list(line.get_ydata()) for line in circles] == [[28.22, 59.88]]


def test_no_line_through_one_column(tmp_path):
    assert accuracy_plot.plot(table(tmp_path, rows({"uniform": {0.1: [50]}, "full": {1.0: [90]}}))) is None


def test_one_method_alone_is_drawn(tmp_path):
    for name in ("uniform", "margin"):
        figure = accuracy_plot.plot(table(tmp_path / name, rows({name: {0.01: [50], 0.1: [60]}})))
        assert [axes.get_title(loc="left") for axes in figure.axes] == [name]
        assert shows(pixels(figure), (255, 255, 255)) > 1000


def test_labels_of_many_fractions_do_not_touch(tmp_path):
    fractions = [0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.9]
    names = ["uniform", "herding", "margin", "graph_cut", "cal"]
    accuracies = {name: dict.fromkeys(fractions, [50.0]) for name in names}
    figure = accuracy_plot.plot(table(tmp_path, rows(accuracies)))
    figure.canvas.draw()
    boxes = [
        text.get_window_extent()
        for text in figure.axes[-3].get_xticklabels()
        if text.get_text() and text.get_visible()
    ]
    assert len(boxes) >= 4
    assert all(a.x1 < b.x0 for a, b in zip(boxes, boxes[1:]))


@pytest.mark.parametrize("layout", ["network", "epochs"])
def test_other_columns_are_drawn_too(tmp_path, layout):
    nets = ("mlp", "lenet")
    experiment = config(networks=nets, selection=SelectionConfig(networks=nets, epochs=(1, 10)))
    results = [row("uniform", 0.1, 0, 0.5, experiment, network=each) for each in nets]
    for a, b in [(a, b) for a in nets for b in (nets if layout == "network" else (1, 10))]:
        place = {"network": b} if layout == "network" else {"network": "lenet", "selection_epochs": b}
        results.append(
            row(
                "margin", 0.1, 0, 0.4, experiment, **{"selection_network": a, "selection_epochs": 10, **place}
            )
        )
    (found,) = [each for each in tables(read([write(tmp_path, results)])) if len(each.rows) > 1]
    assert found.layout == layout
    assert pixels(accuracy_plot.plot(found)).std() > 5


# ---- time ---------------------------------------------------------------------------------------


def test_time_shows_the_parts_apart_and_the_best_first(tmp_path):
    found = table(tmp_path, rows(SMALL))
    figure = time_plot.plot(found, 0.01)
    left, right = figure.axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["log_det", "uniform", "herding"]
    marks = {
        line.get_label(): sorted(line.get_xdata())
        for line in right.lines
        if not line.get_label().startswith("_")
    }
    assert marks["training the network that selects"] == [30, 30]  # uniform needs none
    assert marks["its outputs for every row"] == [2.5, 2.5]
    assert marks["the selection"] == [0.25, 0.25, 0.25]
    together = [
        line.get_xdata()[0] for line in right.lines if line.get_marker() == "|" and len(line.get_xdata())
    ]
    assert sorted(together) == [0.25, 32.75, 32.75]
    picture = pixels(figure)
    assert shows(picture, COLOURS["herding"]) > 30 and picture.shape[1] == 1440


def test_time_of_a_fraction_that_was_not_measured(tmp_path):
    assert time_plot.plot(table(tmp_path, rows(SMALL)), 0.5) is None


# ---- contact sheets -----------------------------------------------------------------------------


class Pictures:
    """12 classes of 5 rows; the image of row i is grey, of brightness 4 i."""

    name, classes, shape, class_names = "greys", 12, (1, 8, 8), None
    labels = torch.arange(12).repeat(5)

    def __len__(self):
        return 60

    def picture(self, row):
        return np.full((8, 8), 4 * row, np.uint8)


def selections(folder, chosen):
    """Rows of results with their files; ``chosen`` gives the rows by method and seed."""
    results = []
    for (method, seed), indices in chosen.items():
        file = f"selections/{method}-{seed}.npz"
        (folder / "selections").mkdir(parents=True, exist_ok=True)
        info = {"method": method, "n": 60, "metric": None, "pairs": "similarity", "balanced": True}
        fastcore.Selection(np.array(indices), info=info).save(folder / file)
        results.append(row(method, 0.2, seed, 0.5, n=60, indices_file=file))
    return tables(read([write(folder, results)]))[0]


def test_the_first_pick_of_every_class(tmp_path):
    chosen = {("uniform", 0): [48, 1, 0, 13, 59], ("margin", 0): [12, 24, 11], ("margin", 1): [3]}
    found = selections(tmp_path, chosen)
    picks = contact_sheet.picks(found, 0.2)
    assert picks.seed == 0 and [label for label, *_ in picks.runs] == ["uniform", "margin"]
    figure = contact_sheet.plot(found, picks, Pictures())
    canvas = figure.axes[0].get_images()[0].get_array()
    assert canvas.shape == (2 * 68 - 4, 12 * 68 - 4, 3)
    middles = canvas[32::68, 32::68, 0].tolist()
    assert middles[0] == [192, 4, *[242] * 9, 236]  # rows 48 and 1, then 59; the others have no pick
    assert middles[1] == [48, *[242] * 10, 44]  # row 12 before 24
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["uniform", "margin"]
    picture = pixels(figure)
    assert shows(picture, (192, 192, 192)) > 64 * 60


def test_several_picks_of_one_method(tmp_path):
    found = selections(tmp_path, {("margin", 0): [12, 24, 11]})
    figure = contact_sheet.plot_method(found, contact_sheet.picks(found, 0.2), Pictures(), "margin", 3)
    canvas = figure.axes[0].get_images()[0].get_array()
    assert canvas[32::68, 32::68, 0][[0, 11]].tolist() == [[48, 96, 242], [44, 242, 242]]


def test_selections_of_other_rows_are_refused(tmp_path):
    found = selections(tmp_path, {("margin", 0): [12, 24, 11]})
    other = Pictures()
    other.labels = torch.arange(12).repeat(4)
    other.__class__ = type("Short", (Pictures,), {"__len__": lambda self: 48})
    with pytest.raises(ValueError, match="margin-0.npz chose from 60 rows, and greys has 48"):
        contact_sheet.plot(found, contact_sheet.picks(found, 0.2), other)


def test_without_files_there_are_no_picks(tmp_path):
    found = selections(tmp_path, {("margin", 0): [12]})
    (tmp_path / "selections/margin-0.npz").unlink()
    assert contact_sheet.picks(found, 0.2) is None
    assert contact_sheet.picks(table(tmp_path, rows(SMALL)), 0.01) is None


@pytest.mark.parametrize("shape", [(8, 8), (28, 28, 3), (64, 48), (224, 300, 3), (65, 65)])
def test_images_of_any_size_fill_their_square(shape):
    side = min(shape[:2])
    tile = side * (64 // side) if side < 64 else 64
    square = contact_sheet._square(np.full(shape, 77, np.uint8), tile)
    assert square.shape == (tile, tile, 3) and (square == 77).all()


# ---- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_files_are_the_same_each_time(tmp_path, kind, start):
    found = table(tmp_path, rows(SMALL))
    first, second = (figures.drawn(time_plot.plot(found, 0.01), (kind,))[kind] for _ in range(2))
    assert first == second and first.startswith(start)


def test_methods_of_one_family_share_a_look_and_families_do_not():
    looks = {style.family(name): style.look(name) for name in fastcore.list_methods()}
    assert len(set(looks.values())) == len(looks) == 8  # seven families, and uniform
    assert style.look("cal") == style.look("deepfool")
