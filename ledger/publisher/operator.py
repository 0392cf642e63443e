"""What operators do to deliveries: policies, pauses, replays and dead letters."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from ledger.database import Connection, Database, class_row, lock_partition_shared
from ledger.errors import InvalidInput, NotFound
from ledger.eventlog import head
from ledger.publisher.policy import NAMES, Choices
from ledger.publisher.positions import (
    check_exists,
    check_position,
    insert_replay,
    last_before,
    move,
    partitions,
)

MOST_IN_FLIGHT = 1000
LONGEST_TIMEOUT = 15.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a subscription is served; ``paused`` is why it is not, where it is paused."""

    subscription_id: UUID
    choices: Choices
    paused: str | None
    paused_at: datetime | None


@dataclass(frozen=True, slots=True)
class ListedDeadLetter:
    """A dead letter as operators see it."""

    dead_letter_id: int
    subscription_id: UUID
    site_id: UUID
    partition: int
    position: int
    version: int
    attempts: int
    last_error: str
    died_at: datetime


@dataclass(frozen=True, slots=True)
class Replay:
    """Positions that are sent again; ``events`` is how many positions it goes over."""

    replay_id: UUID
    subscription_id: UUID
    events: int


class DeliveryOperator:
    """Every method is one transaction, safe from any thread and beside running publishers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def delivery(self, subscription_id: UUID) -> Delivery:
        """How the subscription is served. Raises NotFound."""
        with self._database.connection() as connection:
            check_exists(connection, subscription_id)
            row = connection.execute(
                """
                SELECT coalesce(policy, 'ordered') AS policy, delays, timeout, in_flight,
                       per_second, reason, paused_at
                FROM (VALUES (%s::uuid)) AS wanted (subscription_id)
                LEFT JOIN delivery_policies USING (subscription_id)
                LEFT JOIN delivery_pauses USING (subscription_id)
                """,
                (subscription_id,),
            ).fetchone()
        assert row is not None
        names = ("policy", "delays", "timeout", "in_flight", "per_second")
        choices = Choices(**{name: row[name] for name in names})
        return Delivery(subscription_id, choices, row["reason"], row["paused_at"])

    def set_policy(self, subscription_id: UUID, choices: Choices) -> None:
        """Serve the subscription in this way from now on. Raises NotFound and InvalidInput."""
        _check(choices)
        with self._database.connection() as connection:
            check_exists(connection, subscription_id)
            connection.execute(
                """
                INSERT INTO delivery_policies (
                    subscription_id, policy, delays, timeout, in_flight, per_second
                )
                VALUES (%s, %s, %s, %s, %s, %s)
                ON CONFLICT (subscription_id)
                DO UPDATE SET policy = excluded.policy, delays = excluded.delays,
                              timeout = excluded.timeout, in_flight = excluded.in_flight,
                              per_second = excluded.per_second
                """,
                (
                    subscription_id,
                    choices.policy,
                    None if choices.delays is None else list(choices.delays),
                    choices.timeout,
                    choices.in_flight,
                    choices.per_second,
                ),
            )

    def pause(self, subscription_id: UUID, reason: str) -> None:
        """Send nothing until it is resumed; nothing is lost. A pause keeps its first reason."""
        with self._database.connection() as connection:
            check_exists(connection, subscription_id)
            connection.execute(
                "INSERT INTO delivery_pauses (subscription_id, reason) VALUES (%s, %s) "
                "ON CONFLICT DO NOTHING",
                (subscription_id, reason),
            )

    def resume(
        self,
        subscription_id: UUID,
        *,
        from_now: bool = False,
        from_position: tuple[int, int] | None = None,
    ) -> None:
        """Go on where it stood, with what is appended from now on, or from (partition, position).

        What is skipped so is not sent later; other partitions than the named one stay where
        they stood. Raises NotFound where it is not paused, and InvalidInput for a position
        that the log has not reached.
        """
        with self._database.connection() as connection:
            check_exists(connection, subscription_id)
            done = connection.execute(
                "DELETE FROM delivery_pauses WHERE subscription_id = %s", (subscription_id,)
            )
            if done.rowcount == 0:
                raise NotFound("paused subscription", subscription_id)
            if from_now:
                for partition in partitions(connection):
                    lock_partition_shared(connection, partition)
                    move(connection, subscription_id, partition, head(connection, partition))
            elif from_position is not None:
                partition, position = from_position
                check_position(connection, partition, position)
                move(connection, subscription_id, partition, position - 1)

    def replay(
        self,
        subscription_id: UUID,
        *,
        from_position: tuple[int, int] | None = None,
        from_time: datetime | None = None,
        sites: Collection[UUID] | None = None,
    ) -> Replay:
        """Send again what was recorded up to now, beside live traffic and marked by a header.

        All of it, or from a (partition, position) or a time on, of all sites or of some. Events
        of a time when the app was not installed on their site are not sent. Raises NotFound
        and InvalidInput.
        """
        replay_id, events = uuid4(), 0
        with self._database.connection() as connection:
            check_exists(connection, subscription_id)
            wanted = partitions(connection)
            if from_position is not None:
                check_position(connection, *from_position)
                wanted = [from_position[0]]
            for partition in wanted:
                lock_partition_shared(connection, partition)
                until, after = head(connection, partition), 0
                if from_position is not None:
                    after = from_position[1] - 1
                elif from_time is not None:
                    after = last_before(connection, partition, until, from_time)
                if after < until:
                    span = (replay_id, partition, subscription_id, after, until)
                    insert_replay(connection, *span, sites)
                    events += until - after
        return Replay(replay_id, subscription_id, events)

    def dead_letters(self, subscription_id: UUID | None = None) -> list[ListedDeadLetter]:
        """The dead letters of one subscription or of all, oldest first."""
        with (
            self._database.connection() as connection,
            connection.cursor(row_factory=class_row(ListedDeadLetter)) as cursor,
        ):
            return cursor.execute(
                """
                SELECT dead_letter_id, subscription_id, site_id, partition, dead.position,
                       dead.version, attempts, last_error, died_at
                FROM dead_letters AS dead
                JOIN current_settings AS site USING (partition, originator_id)
                WHERE %(id)s::uuid IS NULL OR subscription_id = %(id)s
                ORDER BY dead_letter_id
                """,
                {"id": subscription_id},
            ).fetchall()

    def retry_dead_letter(self, dead_letter_id: int) -> Replay:
        """Send it again, as a replay of one event with the whole schedule. Raises NotFound."""
        with self._database.connection() as connection:
            letter = _bury(connection, dead_letter_id)
            replay = Replay(uuid4(), letter.subscription_id, 1)
            position = letter.position
            insert_replay(
                connection,
                replay.replay_id,
                letter.partition,
                letter.subscription_id,
                position - 1,
                position,
                None,
            )
        return replay

    def drop_dead_letter(self, dead_letter_id: int) -> None:
        """Forget it: the receiver will not get it. Raises NotFound."""
        with self._database.connection() as connection:
            _bury(connection, dead_letter_id)


@dataclass(frozen=True, slots=True)
class _Grave:
    subscription_id: UUID
    partition: int
    position: int


def _bury(connection: Connection, dead_letter_id: int) -> _Grave:
    with connection.cursor(row_factory=class_row(_Grave)) as cursor:
        grave = cursor.execute(
            "DELETE FROM dead_letters WHERE dead_letter_id = %s "
            "RETURNING subscription_id, partition, position",
            (dead_letter_id,),
        ).fetchone()
    if grave is None:
        raise NotFound("dead letter", dead_letter_id)
    return grave


def _check(choices: Choices) -> None:
    if choices.policy not in NAMES:
        raise InvalidInput("policy", f"expected one of {', '.join(NAMES)}")
    if choices.timeout is not None and not 0 < choices.timeout <= LONGEST_TIMEOUT:
        raise InvalidInput("timeout", f"expected up to {LONGEST_TIMEOUT:g} seconds")
    if choices.in_flight is not None and not 1 <= choices.in_flight <= MOST_IN_FLIGHT:
        raise InvalidInput("in_flight", f"expected 1 to {MOST_IN_FLIGHT}")
    if choices.per_second is not None and not 0 < choices.per_second < float("inf"):
        raise InvalidInput("per_second", "expected more than 0")
    if choices.delays is not None and not all(0 <= d <= 7 * 86_400 for d in choices.delays):
        raise InvalidInput("delays", "expected seconds from 0 to 604800")
