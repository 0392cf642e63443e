"""Handing out the log in the formats of others: NDJSON, CSV, Parquet and OCSF."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import orjson

from ledger import timestamps
from ledger.errors import ConfigError, InvalidInput
from ledger.history import ocsf
from ledger.history.changes import Change, identity_json
from ledger.history.replay import FromPosition, Selection

Progress = Callable[[int, int], None]
__all__ = ["Exported", "FromPosition", "Progress", "export"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Exported:
    """How many changes were written, and where to go on: {partition: first position not read}."""

    events: int
    next_position: dict[int, int]


class Sink(Protocol):
    """One format: takes changes, some at a time."""

    def write(self, changes: Sequence[Change]) -> None:
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
        sink.write(batch.changes)
        written += len(batch.changes)
        reached[batch.partition] = batch.position
        if progress is not None:
            progress(sum(reached.values()) - started, total)
    sink.close()
    return Exported(written, {partition: last + 1 for partition, last in reached.items()})


def record(change: Change) -> dict[str, Any]:
    """All that is known of a change, in the order in which it is wanted."""
    return {
        "partition": change.partition,
        "position": change.position,
        "site_id": change.site_id,
        "kind": change.kind,
        "version": change.version,
        "timestamp": timestamps.stored(change.timestamp),
        "event_id": change.event_id,
        "actor": identity_json(change.actor),
        "on_behalf_of": identity_json(change.on_behalf_of),
        "reason": change.reason,
        "origin": change.origin,
        "via": {
            "channel": change.via.channel,
            "credential": change.via.credential,
            "asserted": change.via.asserted,
        },
        "request_id": change.request_id,
        "changes": change.changes,
        "settings": change.settings,
    }


# ``record`` in plain columns: identities in two each, ``changes`` and ``settings`` as JSON.
_COLUMNS: dict[str, Callable[[Change], Any]] = {
    "partition": lambda change: change.partition,
    "position": lambda change: change.position,
    "site_id": lambda change: str(change.site_id),
    "kind": lambda change: change.kind,
    "version": lambda change: change.version,
    "timestamp": lambda change: change.timestamp,
    "event_id": lambda change: str(change.event_id),
    "actor_type": lambda change: change.actor and str(change.actor.type),
    "actor_id": lambda change: change.actor and change.actor.id,
    "on_behalf_of_type": lambda change: change.on_behalf_of and str(change.on_behalf_of.type),
    "on_behalf_of_id": lambda change: change.on_behalf_of and change.on_behalf_of.id,
    "reason": lambda change: change.reason,
    "origin": lambda change: change.origin,
    "channel": lambda change: change.via.channel,
    "credential": lambda change: change.via.credential,
    "asserted": lambda change: change.via.asserted,
    "request_id": lambda change: change.request_id,
    "changes": lambda change: orjson.dumps(change.changes).decode(),
    "settings": lambda change: orjson.dumps(change.settings).decode(),
}


class NdjsonSink:
    """One JSON object a line."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def write(self, changes: Sequence[Change]) -> None:
        """Write a line each."""
        self._out.write(b"".join(_line(record(change)) for change in changes))

    def close(self) -> None:
        """Nothing stands at the end."""


class OcsfSink(NdjsonSink):
    """One OCSF event a line; see ``ledger.history.ocsf``."""

    def write(self, changes: Sequence[Change]) -> None:
        """Write a line each."""
        self._out.write(b"".join(_line(ocsf.event(change)) for change in changes))


class CsvSink:
    """RFC 4180 with a header.

    A text that a spreadsheet would run as a formula gets an apostrophe in front: this format is
    for people's eyes, NDJSON for exact values.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._write_rows([list(_COLUMNS)])

    def write(self, changes: Sequence[Change]) -> None:
        """Write a row each."""
        columns = _COLUMNS | {"timestamp": lambda change: timestamps.stored(change.timestamp)}
        self._write_rows([[_cell(tell(change)) for tell in columns.values()] for change in changes])

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
        self._rows: list[list[Any]] = []

    def write(self, changes: Sequence[Change]) -> None:
        """Keep them until a row group is full."""
        self._rows += [[tell(change) for tell in _COLUMNS.values()] for change in changes]
        if len(self._rows) >= self.GROUP:
            self._flush()

    def close(self) -> None:
        """Write what is kept, and the footer."""
        if self._rows:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        columns = dict(zip(_COLUMNS, zip(*self._rows, strict=True), strict=True))
        self._writer.write_table(self._pa.Table.from_pydict(columns, schema=self._schema))
        self._rows.clear()


FORMATS: dict[str, Callable[[BinaryIO], Sink]] = {
    "ndjson": NdjsonSink,
    "csv": CsvSink,
    "parquet": ParquetSink,
    "ocsf": OcsfSink,
}


def _line(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
