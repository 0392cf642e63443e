"""Handing out the log in the formats of others: NDJSON, CSV, Parquet and OCSF."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import msgspec

from ledger import timestamps
from ledger.errors import ConfigError, InvalidInput
from ledger.history import ocsf
from ledger.history.entries import Entry
from ledger.history.replay import FromPosition, Selection

Progress = Callable[[int, int], None]
__all__ = ["Exported", "FromPosition", "Progress", "export"]

_JSON = msgspec.json.Encoder()
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Exported:
    """How many changes were written, and where to go on: {partition: first position not read}."""

    events: int
    next_position: dict[int, int]


class Sink(Protocol):
    """One format: takes entries, some at a time."""

    def write(self, entries: Sequence[Entry]) -> None:
        """Write the next ones."""

    def close(self) -> None:
        """Write what has to stand at the end; ``out`` stays open."""


def export(
    selection: Selection, out: BinaryIO, format_name: str, progress: Progress | None
) -> Exported:
    """Write the selection to ``out``. Raises InvalidInput for an unknown format."""
    if format_name not in FORMATS:
        raise InvalidInput("format", f"expected one of {', '.join(FORMATS)}")
    sink = FORMATS[format_name](out)
    reached = {span.partition: span.first - 1 for span in selection.spans}
    started, total, written = sum(reached.values()), selection.events, 0
    for batch in selection.batches():
        sink.write(batch.entries)
        written += len(batch.entries)
        reached[batch.partition] = batch.position
        if progress is not None:
            progress(sum(reached.values()) - started, total)
    sink.close()
    return Exported(written, {partition: last + 1 for partition, last in reached.items()})


# An entry in plain columns: identities in two each, ``changes`` and ``settings`` as JSON.
_COLUMNS: dict[str, Callable[[Entry], Any]] = {
    "partition": lambda entry: entry.partition,
    "position": lambda entry: entry.position,
    "site_id": lambda entry: entry.site_id,
    "kind": lambda entry: entry.kind,
    "version": lambda entry: entry.version,
    "timestamp": lambda entry: entry.timestamp,
    "event_id": lambda entry: entry.event_id,
    "actor_type": lambda entry: entry.actor and entry.actor.type.value,
    "actor_id": lambda entry: entry.actor and entry.actor.id,
    "on_behalf_of_type": lambda entry: entry.on_behalf_of and entry.on_behalf_of.type.value,
    "on_behalf_of_id": lambda entry: entry.on_behalf_of and entry.on_behalf_of.id,
    "reason": lambda entry: entry.reason,
    "origin": lambda entry: entry.origin,
    "channel": lambda entry: entry.via.channel,
    "credential": lambda entry: entry.via.credential,
    "asserted": lambda entry: entry.via.asserted,
    "request_id": lambda entry: entry.request_id,
    "changes": lambda entry: bytes(entry.changes).decode(),
    "settings": lambda entry: bytes(entry.settings).decode(),
}


class NdjsonSink:
    """One JSON object a line."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def write(self, entries: Sequence[Entry]) -> None:
        """Write a line each."""
        self._out.write(_JSON.encode_lines(entries))

    def close(self) -> None:
        """Nothing stands at the end."""


class OcsfSink(NdjsonSink):
    """One OCSF event a line; see ``ledger.history.ocsf``."""

    def write(self, entries: Sequence[Entry]) -> None:
        """Write a line each."""
        self._out.write(_JSON.encode_lines([ocsf.event(entry) for entry in entries]))


class CsvSink:
    """RFC 4180 with a header.

    A text that a spreadsheet would run as a formula gets an apostrophe in front: this format is
    for people's eyes, NDJSON for exact values.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._write_rows([list(_COLUMNS)])

    def write(self, entries: Sequence[Entry]) -> None:
        """Write a row each."""
        self._write_rows([[_cell(tell(entry)) for tell in _COLUMNS.values()] for entry in entries])

    def close(self) -> None:
        """Nothing stands at the end."""

    def _write_rows(self, rows: Sequence[Sequence[Any]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        self._out.write(text.getvalue().encode())


class ParquetSink:
    """Apache Parquet, a row group per GROUP changes. Needs pyarrow."""

    GROUP = 10_000

    def __init__(self, out: BinaryIO) -> None:
        try:
            # By name, since without the extra there is nothing for a type checker to look at.
            pa: Any = importlib.import_module("pyarrow")
            pq: Any = importlib.import_module("pyarrow.parquet")
        except ImportError:
            raise ConfigError(
                "Parquet needs pyarrow: install settings-ledger[parquet], or export as ndjson."
            ) from None
        self._pa = pa
        types: dict[str, Any] = {
            "partition": pa.int32(),
            "position": pa.int64(),
            "version": pa.int64(),
            "timestamp": pa.timestamp("us", tz="UTC"),
            "asserted": pa.bool_(),
        }
        self._schema = pa.schema([(name, types.get(name, pa.string())) for name in _COLUMNS])
        self._writer = pq.ParquetWriter(out, self._schema)
        self._group: list[Entry] = []

    def write(self, entries: Sequence[Entry]) -> None:
        """Keep them until a row group is full."""
        self._group += entries
        if len(self._group) >= self.GROUP:
            self._flush()

    def close(self) -> None:
        """Write what is kept, and the footer."""
        if self._group:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        columns = {name: list(map(tell, self._group)) for name, tell in _COLUMNS.items()}
        columns["timestamp"] = [timestamps.parse(entry.timestamp) for entry in self._group]
        self._writer.write_table(self._pa.Table.from_pydict(columns, schema=self._schema))
        self._group.clear()


FORMATS: dict[str, Callable[[BinaryIO], Sink]] = {
    "ndjson": NdjsonSink,
    "csv": CsvSink,
    "parquet": ParquetSink,
    "ocsf": OcsfSink,
}


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
