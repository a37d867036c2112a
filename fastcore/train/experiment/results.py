"""The results of an experiment: one row of a Parquet file for each finished run."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from fastcore.files import write_atomic

FILE = "results.parquet"

_TYPES = {
    "string": "key experiment dataset network method method_name options",
    "float64": "fraction accuracy_last accuracy_best selection_seconds pretrain_seconds signal_seconds "
    "training_seconds evaluation_seconds",
    "int64": "k n seed selection_epochs best_epoch epochs peak_bytes",
}
COLUMNS = tuple(
    "key experiment dataset network method method_name options fraction k n seed selection_network "
    "selection_epochs accuracy_last accuracy_best best_epoch epochs selection_seconds pretrain_seconds "
    "signal_seconds training_seconds evaluation_seconds peak_bytes device indices_file config versions "
    "git_commit finished history".split()
)
"""Columns of the file, in their order."""


class Results:
    """The file of results of an experiment, which any number of processes add rows to.

    Args:
        path: the file; it need not be there yet.
        lock: the file that is locked while a row is added.
    """

    def __init__(self, path: Path, lock: Path) -> None:
        self.path = path
        self._lock = FileLock(lock)
        self._seen: tuple[int, ...] = ()
        self._rows: dict[str, dict[str, Any]] = {}

    def rows(self) -> dict[str, dict[str, Any]]:
        """The rows by their keys. The file is read again only where it has changed."""
        try:
            stat = os.stat(self.path)
        except FileNotFoundError:
            return {}
        seen = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if seen != self._seen:
            self._rows = {row["key"]: row for row in read_results(self.path)}
            self._seen = seen
        return self._rows

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds a row, whole or not at all; a row with a key that is there already is not added twice.

        Costs a rewrite of the file. Raises OSError when it cannot be written.
        """
        pyarrow = _pyarrow()
        with self._lock:
            if row["key"] in self.rows():
                return
            table = pyarrow.Table.from_pylist([dict(row)], schema=_schema())
            if self.path.exists():
                held = _read(self.path)
                table = pyarrow.concat_tables([held, table], promote_options="default")
            self._write(table)

    def relabel(self, labels: Mapping[str, str]) -> None:
        """Sets what the methods of some rows are called, by the keys of the rows. Rows that are so are left."""
        pyarrow = _pyarrow()
        with self._lock:
            rows = self.rows()
            if all(rows[key]["method"] == label for key, label in labels.items() if key in rows):
                return
            table = _read(self.path)
            pairs = zip(table["key"].to_pylist(), table["method"].to_pylist())
            renamed = pyarrow.array([labels.get(key, label) for key, label in pairs])
            self._write(table.set_column(table.column_names.index("method"), "method", renamed))

    def _write(self, table: Any) -> None:
        from pyarrow import parquet

        buffer = io.BytesIO()
        parquet.write_table(table, buffer, compression="zstd")
        write_atomic(self.path, buffer.getvalue())


def read_results(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of a file of results, or of the output folder that it is in, in the order they were finished.

    Raises OSError when it cannot be read, ValueError when it is another kind of file.
    """
    path = Path(path)
    table = _read(path / FILE if path.is_dir() else path)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def as_json(value: Any) -> str:
    """A value as it is held in a column of JSON."""
    return json.dumps(value, sort_keys=True, default=str)


def _read(path: Path) -> Any:
    pyarrow = _pyarrow()
    from pyarrow import parquet

    try:
        with open(path, "rb") as file:
            # By this thread alone: threads of pyarrow that are there at the end of the process may abort it.
            table = parquet.ParquetFile(pyarrow.BufferReader(file.read())).read(use_threads=False)
    except pyarrow.ArrowException as error:
        raise ValueError(f"cannot read {path}: {str(error).partition(chr(10))[0]}") from error
    except OSError as error:
        raise OSError(error.errno, f"cannot read {path}: {error.strerror or error}") from error
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise ValueError(f"{path} holds no results of experiments: it has no column {missing[0]!r}")
    return table


def _schema() -> Any:
    pyarrow = _pyarrow()
    kinds = {name: kind for kind, names in _TYPES.items() for name in names.split()}
    return pyarrow.schema([(name, getattr(pyarrow, kinds.get(name, "string"))()) for name in COLUMNS])


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError('results need pyarrow: pip install "fastcore-coreset[train]"') from error
    return pyarrow
