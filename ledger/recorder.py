"""The log as the eventsourcing library sees it: an application recorder and its snapshots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from eventsourcing.domain import DomainEventProtocol, Snapshot
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    JSONTranscoder,
    Mapper,
    Notification,
    NotSupportedError,
    StoredEvent,
    Subscription,
)
from eventsourcing.utils import get_topic

from ledger import eventlog, timestamps
from ledger.aggregate import SettingsRecord, SiteSettings, snapshot_state
from ledger.batch import CurrentSettings
from ledger.canonical import canonical_bytes
from ledger.commands import AppendCommand, deadline_in
from ledger.database import Database
from ledger.doorbell import Listener
from ledger.eventlog import RecordedEvent
from ledger.writer import Writer

POLL_SECONDS = 0.25
PAGE = 500


class PartitionLog(ApplicationRecorder):
    """One partition of the log; an event's position is its notification id.

    Differs from the library's own recorders where the ledger promises more: versions have no
    gaps (the library's take any unused version), and there is no tracking, since projections
    keep their cursors in their own tables.
    """

    def __init__(self, database: Database, writer: Writer, *, timeout: float = 10.0) -> None:
        self._database = database
        self._writer = writer
        self._timeout = timeout
        self.partition = writer.partition

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int]:
        """Append all or none; returns their positions.

        Raises the library's IntegrityError where a version is taken or would leave a gap.
        """
        if kwargs.get("tracking") is not None:
            message = "the log keeps no tracking: a projection keeps its cursor itself"
            raise NotSupportedError(message)
        if not stored_events:
            return []
        command = AppendCommand(deadline=deadline_in(self._timeout), events=stored_events)
        self._writer.submit(command)
        return command.future.result()

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """An originator's events by version."""
        with self._database.connection() as connection:
            events = eventlog.read_originator(
                connection,
                self.partition,
                UUID(str(originator_id)),
                from_version=0 if gt is None else gt + 1,
                to_version=lte,
                newest_first=desc,
                limit=limit,
            )
        return [
            StoredEvent(event.originator_id, event.originator_version, event.topic, event.state)
            for event in events
        ]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Events by position, from ``start`` to ``stop``."""
        after = 0 if start is None else start - 1 if inclusive_of_start else start
        with self._database.connection() as connection:
            events = eventlog.read_between(
                connection, self.partition, after, limit, stop=stop, topics=topics
            )
        return [_notification(event) for event in events]

    def max_notification_id(self) -> int | None:
        """The partition's last position, None where nothing was appended."""
        with self._database.connection() as connection:
            return eventlog.head(connection, self.partition) or None

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> Subscription[ApplicationRecorder]:
        """Every event behind position ``gt``, those to come included."""
        return LogSubscription(self, Listener(self._database), gt=gt, topics=topics)


class LogSubscription(Subscription[ApplicationRecorder]):
    """Reads on as the doorbell rings, and every POLL_SECONDS in case it did not."""

    def __init__(
        self,
        recorder: PartitionLog,
        listener: Listener,
        gt: int | None = None,
        topics: Sequence[str] = (),
    ) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        self._listener = listener
        self._page: list[Notification] = []

    def __exit__(self, *args: object, **kwargs: Any) -> None:
        super().__exit__(*args, **kwargs)
        # Whoever leaves in the midst of the events never comes to their end.
        self._listener.close()

    def __next__(self) -> Notification:
        while not self._has_been_stopped:
            if not self._page:
                self._page = list(
                    self._recorder.select_notifications(
                        self._last_notification_id or 0,
                        PAGE,
                        topics=self._topics,
                        inclusive_of_start=False,
                    )
                )
            if self._page:
                notification = self._page.pop(0)
                self._last_notification_id = notification.id
                return notification
            self._listener.wait(POLL_SECONDS)
        self._listener.close()
        raise StopIteration


class CurrentSnapshots(AggregateRecorder):
    """The current rows as snapshots, so that loading a site costs the same whatever its history.

    Read-only: the rows change with the log and by nothing else.
    """

    def __init__(self, database: Database, partition: int, current: CurrentSettings) -> None:
        self._database = database
        self._partition = partition
        self._current = current

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> None:  # noqa: ARG002
        """Refuse."""
        message = "the current settings are the snapshot; none is taken"
        raise NotSupportedError(message)

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,  # noqa: ARG002
        limit: int | None = None,  # noqa: ARG002
    ) -> Sequence[StoredEvent]:
        """The current row, unless a version is asked for: that is rebuilt from events alone."""
        if lte is not None:
            return []
        key = UUID(str(originator_id))
        with self._database.connection() as connection:
            rows = self._current.select(connection, self._partition, [key])
            record = self._current.records_in(rows).get(key)
        if record is None or (gt is not None and record.version <= gt):
            return []
        return [StoredEvent(key, record.version, get_topic(Snapshot), _snapshot_bytes(record))]


class SnapshotMapper(Mapper[UUID]):
    """Reads what CurrentSnapshots gives."""

    def __init__(self) -> None:
        super().__init__(transcoder=JSONTranscoder())

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[UUID]:
        """The snapshot of a site's settings."""
        state = json.loads(stored_event.state)
        for name in ("_created_on", "_modified_on"):
            state[name] = timestamps.parse(state[name])
        return Snapshot(
            originator_id=UUID(str(stored_event.originator_id)),
            originator_version=stored_event.originator_version,
            timestamp=state["_modified_on"],
            topic=SiteSettings.TOPIC,
            state=state,
        )


def _snapshot_bytes(record: SettingsRecord) -> bytes:
    state = snapshot_state(record)
    dates = {name: timestamps.stored(state[name]) for name in ("_created_on", "_modified_on")}
    return canonical_bytes(state | dates)


def _notification(event: RecordedEvent) -> Notification:
    return Notification(
        id=event.position,
        originator_id=event.originator_id,
        originator_version=event.originator_version,
        topic=event.topic,
        state=event.state,
    )
