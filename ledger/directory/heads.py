"""Heads of partitions, held still while the directory notes who receives from there on."""

from __future__ import annotations

from ledger.database import Connection, lock_partition_shared
from ledger.directory import sites
from ledger.eventlog import head


def locked_heads(connection: Connection) -> dict[int, int]:
    """The head of every partition, all locked (shared) until the transaction ends.

    In order of number: whoever takes several of these locks takes them so.
    """
    return {
        partition: locked_head(connection, partition) for partition in sites.partitions(connection)
    }


def locked_head(connection: Connection, partition: int) -> int:
    """The partition's head; nothing is appended to it until the transaction ends.

    A statement of its own after the lock: it must look with a snapshot from after the wait.
    """
    lock_partition_shared(connection, partition)
    return head(connection, partition)
