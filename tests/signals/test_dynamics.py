"""The record of training, against plain loops; its scores, and what must not happen to it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fastcore.signals.dynamics import Dynamics, DynamicsRecorder

FIELDS = ("correct", "probability", "margin", "loss", "error_norm", "seen")


def record(logits, labels, seen=None):
    """The record of logits (epochs, n, C), in batches of 4 in an order of its own each epoch."""
    epochs, n, _ = logits.shape
    recorder = DynamicsRecorder(n)
    for epoch in range(epochs):
        for rows in torch.randperm(n).split(4):
            rows = rows if seen is None else rows[seen[epoch, rows]]
            recorder.update(rows, logits[epoch, rows], labels[rows])
        recorder.end_epoch()
    return recorder.dynamics


def of_correct(correct, seen=None):
    """A record with this (epochs, n) history of right and wrong."""
    correct = torch.as_tensor(correct, dtype=torch.bool)
    logits = torch.stack([correct.float(), 1 - correct.float()], 2)
    seen = None if seen is None else torch.as_tensor(seen, dtype=torch.bool)
    return record(logits, torch.zeros(correct.shape[1], dtype=torch.int64), seen)


def test_what_is_recorded_is_what_numpy_says():
    rng = np.random.default_rng(0)
    logits, labels = 4 * rng.standard_normal((3, 11, 6)), rng.integers(0, 6, 11)
    dynamics = record(torch.from_numpy(logits), torch.from_numpy(labels))
    assert (dynamics.runs, dynamics.epochs, dynamics.n, len(dynamics)) == (1, 3, 11, 11)
    assert [getattr(dynamics, name).dtype for name in FIELDS] == [
        torch.bool,
        *[torch.float32] * 4,
        torch.bool,
    ]
    for epoch in range(3):
        for row in range(11):
            z, y = logits[epoch, row], labels[row]
            p = np.exp(z) / np.exp(z).sum()
            expected = {
                "correct": z.argmax() == y,
                "probability": p[y],
                "margin": z[y] - max(z[c] for c in range(6) if c != y),
                "loss": -math.log(p[y]),
                "error_norm": math.sqrt(sum((p[c] - (c == y)) ** 2 for c in range(6))),
                "seen": True,
            }
            for name, value in expected.items():
                assert float(getattr(dynamics, name)[0, epoch, row]) == pytest.approx(
                    float(value), rel=1e-6
                ), name


def test_a_row_that_the_network_is_sure_of_keeps_its_digits():
    dynamics = record(torch.tensor([[[40.0, 0.0]]]), torch.tensor([0]))
    assert float(dynamics.error_norm) == pytest.approx(math.sqrt(2) * math.exp(-40), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_floating_dtype_and_kind_of_index(dtype):
    for index, labels in (([2, 0], [1, 0]), (np.array([2, 0]), np.array([1, 0], np.int32))):
        recorder = DynamicsRecorder(3)
        logits = torch.tensor([[1.0, 3.0], [0.5, 0.25]], dtype=dtype, requires_grad=True)
        recorder.update(index, logits, labels)
        recorder.end_epoch()
        dynamics = recorder.dynamics
        assert dynamics.margin[0, 0, [2, 0]].tolist() == [2.0, 0.25] and not dynamics.margin.requires_grad
        assert dynamics.seen[0, 0].tolist() == [True, False, True]
        assert math.isnan(dynamics.loss[0, 0, 1]) and not dynamics.correct[0, 0, 1]


def test_the_first_of_equal_logits_is_the_prediction():
    dynamics = record(torch.zeros(1, 2, 3), torch.tensor([0, 1]))
    assert dynamics.correct[0, 0].tolist() == [True, False] and dynamics.margin[0, 0].tolist() == [0, 0]


def test_forgetting_is_right_then_wrong():
    dynamics = of_correct([[0, 1, 1, 1, 0], [1, 0, 1, 1, 0], [0, 1, 1, 0, 0], [1, 0, 1, 0, 0]])
    assert dynamics.forgetting_events().dtype == torch.float64
    # Learning is no event, and a row that was never learned is no easy row: it comes first, not last.
    assert dynamics.forgetting_events().tolist() == [1, 2, 0, 1, math.inf]


def test_forgetting_counts_between_epochs_in_which_the_row_was_seen():
    correct = [[1, 1, 0, 1], [0, 0, 1, 0], [0, 1, 0, 1]]
    seen = [[1, 1, 1, 0], [0, 0, 1, 1], [1, 1, 0, 1]]
    assert of_correct(correct, seen).forgetting_events().tolist() == [1, 0, 0, 0]


def test_scores_are_means_over_runs():
    a, b = of_correct([[1, 1], [0, 1], [1, 1]]), of_correct([[1, 1], [1, 0], [1, 0]])
    both = Dynamics.merge([a, b])
    assert (both.runs, both.epochs, both.n) == (2, 3, 2)
    assert both.forgetting_events().tolist() == [0.5, 0.5]
    never = Dynamics.merge([a, of_correct([[0, 1], [0, 1], [0, 1]])])
    assert never.forgetting_events().tolist() == [math.inf, 0]
    for score in ("error_norms", "area_under_margin"):
        parts = [getattr(part, score)() for part in (a, b)]
        torch.testing.assert_close(getattr(both, score)(), (parts[0] + parts[1]) / 2, rtol=0, atol=1e-15)


def test_scores_against_plain_loops():
    rng = np.random.default_rng(1)
    epochs, n = 7, 50
    seen = rng.random((epochs, n)) < 0.7
    seen[0] = True
    logits, labels = (
        torch.from_numpy(rng.standard_normal((epochs, n, 3))),
        torch.from_numpy(rng.integers(0, 3, n)),
    )
    dynamics = record(logits, labels, torch.from_numpy(seen))
    for row in range(n):
        history = [bool(dynamics.correct[0, epoch, row]) for epoch in range(epochs) if seen[epoch, row]]
        events = sum(a and not b for a, b in zip(history, history[1:]))
        assert float(dynamics.forgetting_events()[row]) == (events if any(history) else math.inf)
        margins = [float(dynamics.margin[0, epoch, row]) for epoch in range(epochs) if seen[epoch, row]]
        assert float(dynamics.area_under_margin()[row]) == pytest.approx(
            sum(margins) / len(margins), rel=1e-12
        )
    assert torch.equal(dynamics.error_norms(0), dynamics.error_norm[0, 0].double())
    with pytest.raises(ValueError, match="row .* was not seen in epoch 6 of run 0"):
        dynamics.error_norms()


def test_the_epoch_of_error_norms():
    dynamics = record(torch.randn(3, 4, 2), torch.zeros(4, dtype=torch.int64))
    assert torch.equal(dynamics.error_norms(), dynamics.error_norm[0, 2].double())
    assert torch.equal(dynamics.error_norms(-3), dynamics.error_norms(0))
    for epoch in (3, -4):
        with pytest.raises(ValueError, match=f"epoch must be .*{epoch}"):
            dynamics.error_norms(epoch)


def test_a_row_that_was_never_seen_has_no_score():
    dynamics = of_correct([[1, 1], [1, 1]], [[1, 0], [1, 0]])
    for score in (dynamics.forgetting_events, dynamics.area_under_margin):
        with pytest.raises(ValueError, match="row 1 was seen in no epoch of run 0"):
            score()


def test_float64_scores_of_float32_records():
    """The mean of 1, 2^-30 and -1 is 2^-30 / 3; float32 sums say 0."""
    ones = torch.ones(1, 3, 1)
    margin = torch.tensor([1.0, 2.0**-30, -1.0]).view(1, 3, 1)
    dynamics = Dynamics(ones.bool(), ones, margin, ones, ones, ones.bool())
    assert float(dynamics.area_under_margin()) == 2.0**-30 / 3


GOOD = ([0, 1], torch.zeros(2, 3), [0, 2])


@pytest.mark.parametrize(
    ("position", "value", "error", "message"),
    [
        (0, [0, 4], ValueError, "index must be between 0 and 3, got 4"),
        (0, [-1, 1], ValueError, "index must be between 0 and 3, got -1"),
        (0, [1, 1], ValueError, "row 1 is recorded twice in epoch 0: call end_epoch"),
        (0, [0.0, 1.0], TypeError, "index must be integers"),
        (0, [True, False], TypeError, "index must be integers"),
        (0, [0], ValueError, "index must have shape \\(2,\\) like the logits, got \\(1,\\)"),
        (1, torch.zeros(2), ValueError, "logits must have shape"),
        (1, torch.zeros(2, 1), ValueError, "logits must have shape"),
        (1, torch.zeros(2, 3).long(), TypeError, "logits must be a floating-point tensor"),
        (
            1,
            torch.tensor([[0, 0, 0], [0, torch.nan, 0]]),
            ValueError,
            "got nan at row 1 of the batch, class 1",
        ),
        (2, [0, 3], ValueError, "labels must be between 0 and 2, got 3"),
        (2, [0, -1], ValueError, "labels must be between 0 and 2, got -1"),
        (2, [0.0, 1.0], TypeError, "labels must be integers"),
        (2, [[0], [1]], ValueError, "labels must have shape \\(2,\\)"),
    ],
)
def test_a_bad_update_is_refused_and_records_nothing(position, value, error, message):
    recorder = DynamicsRecorder(4)
    given = list(GOOD)
    given[position] = value
    with pytest.raises(error, match=message):
        recorder.update(*given)
    recorder.update(*GOOD)
    with pytest.raises(ValueError, match="row 1 is recorded twice in epoch 0"):
        recorder.update([2, 1], *GOOD[1:])
    recorder.end_epoch()
    assert recorder.dynamics.seen[0].tolist() == [[True, True, False, False]]
    recorder.update([2, 1], *GOOD[1:])


def test_epochs_must_end():
    recorder = DynamicsRecorder(4)
    with pytest.raises(ValueError, match="call update"):
        recorder.end_epoch()
    with pytest.raises(ValueError, match="epoch 0 has not ended"):
        _ = recorder.dynamics
    recorder.update(*GOOD)
    with pytest.raises(ValueError, match="epoch 0 has not ended"):
        _ = recorder.dynamics
    recorder.end_epoch()
    assert recorder.dynamics.epochs == 1


@pytest.mark.parametrize("epochs", [None, 2, 40])
def test_it_grows(epochs):
    recorder = DynamicsRecorder(2, epochs=epochs)
    for epoch in range(11):
        recorder.update([0, 1], torch.tensor([[float(epoch), 0.0]] * 2), [0, 0])
        recorder.end_epoch()
    assert recorder.dynamics.margin[0, :, 1].tolist() == list(range(11))


def test_a_record_does_not_change_with_the_recorder():
    recorder = DynamicsRecorder(4, epochs=5)
    recorder.update(*GOOD)
    recorder.end_epoch()
    before = recorder.dynamics
    recorder.load_state_dict(DynamicsRecorder(4).state_dict())
    assert before.seen.sum() == 2 and recorder.epochs == 0


def test_resumed_in_the_middle_of_an_epoch(tmp_path):
    logits, labels = torch.randn(3, 4, 2), torch.tensor([0, 1, 0, 1])
    recorder = DynamicsRecorder(4)
    for epoch in range(3):
        recorder.update([0, 1], logits[epoch, :2], labels[:2])
        torch.save(recorder.state_dict(), tmp_path / "state.pt")
        recorder = DynamicsRecorder(4)
        recorder.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        with pytest.raises(ValueError, match="recorded twice"):
            recorder.update([1], logits[epoch, 1:2], labels[1:2])
        recorder.update([2, 3], logits[epoch, 2:], labels[2:])
        recorder.end_epoch()
    whole = record(logits, labels)
    assert all(torch.equal(getattr(recorder.dynamics, name), getattr(whole, name)) for name in FIELDS)
    with pytest.raises(ValueError, match="state must be of 5 rows, got 4"):
        DynamicsRecorder(5).load_state_dict(recorder.state_dict())


def test_saved_and_loaded(tmp_path):
    dynamics = of_correct([[1, 0, 1], [0, 1, 1]], [[1, 1, 1], [1, 1, 0]])
    dynamics.save(tmp_path / "record.npz")
    loaded = Dynamics.load(tmp_path / "record.npz")
    for name in FIELDS:
        held, expected = getattr(loaded, name), getattr(dynamics, name)
        assert held.dtype == expected.dtype
        torch.testing.assert_close(held, expected, rtol=0, atol=0, equal_nan=True)
    with np.load(tmp_path / "record.npz", allow_pickle=False) as archive:
        assert set(FIELDS) < set(archive.files)
    with pytest.raises(OSError):
        Dynamics.load(tmp_path / "none.npz")
    (tmp_path / "other.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="other.npz is not a record saved by fastcore"):
        Dynamics.load(tmp_path / "other.npz")


def test_merging_what_does_not_fit():
    a = of_correct([[1, 0], [1, 1]])
    with pytest.raises(ValueError, match="2 epochs of 2 rows and 1 epochs of 2"):
        Dynamics.merge([a, of_correct([[1, 0]])])
    with pytest.raises(ValueError, match="2 epochs of 2 rows and 2 epochs of 3"):
        Dynamics.merge([a, of_correct([[1, 0, 1]] * 2)])
    for parts in ([], [a, "b"]):
        with pytest.raises(TypeError, match="parts must be"):
            Dynamics.merge(parts)


def test_a_record_made_by_hand_is_checked():
    ones = torch.ones(1, 2, 3)
    with pytest.raises(ValueError, match="margin must have shape \\(1, 2, 3\\) like seen, got \\(1, 2, 4\\)"):
        Dynamics(ones.bool(), ones, torch.ones(1, 2, 4), ones, ones, ones.bool())
    with pytest.raises(ValueError, match="loss must have shape \\(runs, epochs, rows\\)"):
        Dynamics(ones.bool(), ones, ones, ones[0], ones, ones.bool())
    with pytest.raises(ValueError, match="loss must not be NaN, got it in run 0, epoch 0, at row 0"):
        Dynamics(ones.bool(), ones, ones, ones * torch.nan, ones, ones.bool())
    with pytest.raises(TypeError, match="correct must be torch.bool"):
        Dynamics(ones, ones, ones, ones, ones, ones.bool())
