"""The queue before the writer: bounded, in order, and never stopped by a caller who left."""

from __future__ import annotations

import os
import threading
import uuid

import pytest
from eventsourcing.persistence import StoredEvent
from faults.opening import provenance
from faults.waiting import eventually

from ledger.commandqueue import CommandQueue
from ledger.commands import AppendCommand, SettingsCommand
from ledger.errors import Unavailable
from ledger.orders_settings import ORDERS_SETTINGS


def change(deadline: float = 10.0) -> SettingsCommand:
    """A command that changes nothing in particular."""
    return SettingsCommand(
        deadline=deadline,
        site_id=uuid.uuid4(),
        kind=ORDERS_SETTINGS,
        patch={},
        provenance=provenance(),
    )


def appending() -> AppendCommand:
    """A command that appends a finished event."""
    return AppendCommand(deadline=10.0, events=[StoredEvent(uuid.uuid4(), 1, "topic", b"{}")])


def filled(*commands, size: int = 10) -> CommandQueue:
    queue = CommandQueue(size)
    for command in commands:
        queue.put(command)
    return queue


def test_first_come_first_served():
    """Commands leave in the order in which they came, as many as fit into a batch."""
    commands = [change() for _ in range(5)]
    queue = filled(*commands)
    assert queue.take(3) == commands[:3]
    assert queue.take(3) == commands[3:]


def test_what_is_put_back_comes_first_and_in_order():
    """Commands that run again run before those that came later, in their old order."""
    commands = [change() for _ in range(4)]
    queue = filled(*commands)
    taken = queue.take(3)
    queue.put_back(taken[1:])
    assert queue.take(10) == commands[1:]


def test_a_full_queue_refuses_at_once():
    """The command that would be one too many is refused, and the queue keeps what it has."""
    commands = [change(), change()]
    queue = filled(*commands, size=2)
    with pytest.raises(Unavailable, match="was not recorded"):
        queue.put(change())
    assert queue.take(10) == commands


def test_finished_events_are_a_batch_of_their_own():
    """Events to append are taken alone, in their turn, since they are all or none."""
    first, second, alone, last = change(), change(), appending(), change()
    queue = filled(first, second, alone, last)
    assert [queue.take(10) for _ in range(3)] == [[first, second], [alone], [last]]


def test_a_cancelled_command_is_passed_over():
    """A caller who cancelled before the batch was taken is not in it."""
    left, stayed = change(), change()
    queue = filled(left, stayed)
    assert left.future.cancel()
    assert queue.take(10) == [stayed]


def test_an_expired_command_is_passed_over():
    """A command that was given up while it waited is not taken, and stops nothing."""
    late, timely = change(deadline=1.0), change(deadline=3.0)
    queue = filled(late, timely)
    assert queue.expired(now=2.0) == [late]
    late.expire()
    assert isinstance(late.future.exception(), Unavailable)
    assert queue.take(10) == [timely]


def test_a_command_that_expires_after_it_was_put_back_is_passed_over():
    """A command that was taken, put back and then given up is not taken again."""
    late, timely = change(), change()
    queue = filled(late, timely)
    queue.put_back(queue.take(10))
    late.expire()
    assert queue.take(10) == [timely]


def test_closing_lets_out_what_waits_and_nothing_in():
    """A closed queue gives what it holds, then empty batches, and refuses what comes."""
    waiting = change()
    queue = filled(waiting)
    queue.close()
    with pytest.raises(Unavailable, match="closing"):
        queue.put(change())
    assert not queue.drained
    assert queue.take(10) == [waiting]
    assert queue.drained
    assert queue.take(10) == []


def test_whoever_takes_is_woken_once_enough_wait():
    """Fewer commands do not wake who waits for more of them, and for something else besides."""
    queue, (other, end) = filled(change()), os.pipe()
    woken = threading.Event()

    def wait():
        queue.wait(other, 3)
        woken.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    eventually(lambda: queue._asleep)
    queue.put(change())
    assert queue._asleep
    queue.put(change())
    assert woken.wait(30)
    waiting.join()
    queue.wait(other, 3)
    os.write(end, b"!")
    queue.take(3)
    queue.wait(other, 3)
    for descriptor in (other, end):
        os.close(descriptor)
    queue.dispose()
