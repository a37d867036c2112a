"""The tables that are printed last: every row in a line, then those with a target, and the peers beside them."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.gpu.records import LEFT_OUT, OURS, OVER, Number, Record

HEAD = ("case", "who", "n", "k", "value", "target", "", "ceiling", "memory", "picks", "status, note")
SHORT = ("case", "n", "k", "time", "target", "", "ceiling", "memory", "picks", "times faster than")


def shown(value: Number, unit: str) -> str:
    """A value with its unit, in three digits."""
    if value == "":
        return ""
    number = float(value)
    if unit == "s" and number < 1:
        return f"{1e3 * number:.3g} ms"
    return f"{number:,.0f} {unit}" if number >= 1000 else f"{number:.3g} {unit}"


def table(records: Sequence[Record]) -> str:
    """All records, a line each; a peer and how many times faster we are share one."""
    given = [r for r in records if not r.note.startswith(LEFT_OUT)]
    over = {(r.case, r.n, r.k, r.who): r for r in given if r.who.startswith(OVER)}
    lines = [
        _line(r, over.get((r.case, r.n, r.k, OVER + r.who), r)) for r in given if not r.who.startswith(OVER)
    ]
    left = len(records) - len(given)
    rest = [f"and {left} rows that options of the command line left out"] * (left > 0)
    return "\n".join([*_aligned([HEAD, *lines]), *rest])


def short(records: Sequence[Record]) -> str:
    """Our times that have a target, or at the largest size where none has, and how the peers compare."""
    ours = [r for r in records if r.who == OURS and r.quantity == "time" and not r.note.startswith(LEFT_OUT)]
    last = {r.case: r for r in ours}
    aimed = {r.case for r in ours if r.target != ""}
    chosen = [r for r in ours if r.target != "" or (r.case not in aimed and r is last[r.case])]
    lines = []
    for r in chosen:
        peers = [o for o in records if o.who.startswith(OVER) and (o.case, o.n, o.k) == (r.case, r.n, r.k)]
        said = "; ".join(_peer(peer) for peer in peers)
        value = shown(r.value, r.unit) or r.status
        size = (r.case, str(r.n), str(r.k), value, shown(r.target, r.unit), r.met)
        lines.append((*size, _share(r), _memory(r), r.refcheck[:52] or r.note[:52], said))
    return "\n".join(_aligned([SHORT, *lines]))


def summary(records: Sequence[Record]) -> str:
    """How many targets are met, and how many rows are not measured."""
    judged = [r.met for r in records if r.met]
    counts = ", ".join(f"{judged.count(word)} {word}" for word in ("met", "not met", "not measured"))
    empty = sum(r.status != "ok" for r in records)
    return f"targets: {counts}; {empty} of {len(records)} rows are not measured, and say why"


def _peer(over: Record) -> str:
    name = over.who.removeprefix(OVER)
    if over.value == "":
        return f"{name}: {over.status}"
    return f"{name}: {float(over.value):.3g}x" + (f" ({over.met})" if over.met else "")


def _share(r: Record) -> str:
    return f"{100 * float(r.share):.3g} % {r.ceiling}" if r.share != "" else ""


def _memory(r: Record) -> str:
    if r.peak_bytes == "":
        return ""
    size = float(r.peak_bytes)
    return f"{1e-9 * size:.3g} GB" if size >= 1e9 else f"{1e-6 * size:.3g} MB"


def _line(r: Record, judged: Record) -> tuple[str, ...]:
    """A record; the target is that of `judged`."""
    ratio = f"{float(r.ratio):.3g}x ours" if r.ratio != "" else ""
    rest = "; ".join(text for text in ("" if r.status == "ok" else r.status, ratio, r.note) if text)
    name = r.case if r.quantity == "time" else f"{r.case}, {r.quantity}"
    name = r.case if r.quantity in (r.case, "tests", "cases") else name
    aim = shown(r.value, r.unit), shown(judged.target, judged.unit), judged.met
    return (name, r.who, str(r.n), str(r.k), *aim, _share(r), _memory(r), r.refcheck[:72], rest[:100])


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return [lines[0], "-" * min(max(map(len, lines)), 160), *lines[1:]]
