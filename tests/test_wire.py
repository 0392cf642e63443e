"""The binary protocol: what is sent as an array is what PostgreSQL reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from ledger import wire
from ledger.eventlog import prepare_append
from ledger.statement import Statement

NO_NULS = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)))
MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))
ECHO = "SELECT $1::bigint[] AS numbers, $2::timestamptz AS moment"


@pytest.fixture(scope="module")
def connection(postgres, template):
    with (
        postgres.lent("ledger_wire", template.name) as database,
        psycopg.connect(database.server_url, autocommit=True) as connection,
    ):
        yield connection


def read_as(connection, type_name: str, data: bytes):
    """What PostgreSQL says in text to a parameter of that type."""
    result = connection.pgconn.exec_params(
        b"SELECT to_json($1::" + type_name.encode() + b")::text", [data], param_formats=[1]
    )
    assert not result.error_message, result.error_message
    return connection.execute("SELECT %s::json AS value", (result.get_value(0, 0).decode(),))


@given(st.lists(st.uuids()), st.lists(NO_NULS), st.lists(st.integers(-(2**63), 2**63 - 1)))
@settings(max_examples=50, deadline=None)
def test_arrays_arrive_as_they_are(connection, ids, words, numbers):
    """Ids, texts and numbers come out as they went in, in order, empty arrays included."""
    found = read_as(connection, "uuid[]", wire.uuids(ids)).fetchone()
    assert found == ([str(one) for one in ids],)
    assert read_as(connection, "text[]", wire.texts(words)).fetchone() == (words,)
    assert read_as(connection, "bigint[]", wire.bigints(numbers)).fetchone() == (numbers,)
    assert wire.bigints_in(wire.bigints(numbers)) == numbers


@given(st.lists(st.none() | st.binary()))
@settings(max_examples=50, deadline=None)
def test_bytes_and_nulls_arrive_as_they_are(connection, values):
    """Bytes keep their nulls."""
    found = read_as(connection, "bytea[]", wire.byteas(values)).fetchone()
    assert found == ([None if one is None else f"\\x{one.hex()}" for one in values],)


@given(MOMENTS, st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_an_answer_is_read_as_it_is(connection, moment, numbers):
    """A moment goes there and back to the microsecond; numbers come back with their nulls."""
    assert wire.timestamp_in(wire.timestamp(moment)) == moment
    with psycopg.connect(connection.info.dsn, autocommit=True) as other:
        rows = other.execute("SELECT %b::bigint[] AS numbers", (numbers,), binary=True)
        assert rows.pgresult is not None
        assert wire.bigints_in(rows.pgresult.get_value(0, 0)) == numbers


@given(
    st.lists(st.uuids()),
    st.lists(st.binary()),
    st.lists(MOMENTS),
    st.lists(st.dictionaries(NO_NULS, st.booleans() | NO_NULS | st.none())),
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_arrays_of_an_answer_are_read_as_they_are(connection, ids, values, moments, objects):
    """Ids, bytes, moments and JSON come back in order; nothing is read as nothing."""
    with psycopg.connect(connection.info.dsn, autocommit=True) as other:
        rows = other.execute(
            "SELECT %b::uuid[], %b::bytea[], %b::timestamptz[], %b::jsonb[], NULL::bigint[]",
            (ids, values, moments, [Jsonb(one) for one in objects]),
            binary=True,
        )
        assert rows.pgresult is not None
        found = [rows.pgresult.get_value(0, column) for column in range(5)]
    assert wire.uuids_in(found[0]) == [str(one) for one in ids]
    assert wire.byteas_in(found[1]) == values
    assert wire.timestamps_in(found[2]) == moments
    assert wire.jsonbs_in(found[3]) == objects
    assert wire.numbers_in(found[4]) == wire.bigints_in(found[4]) == []


def test_a_connection_keeps_several_statements(connection):
    """Each name is prepared once for a connection, and none disturbs another."""
    with psycopg.connect(connection.info.dsn, autocommit=True) as other:
        for number in range(3):
            for name, factor in (("double", 2), ("triple", 3)):
                text = f"SELECT $1::bigint * {factor}"
                statement = Statement.prepared(other, text, name)
                statement.send([number.to_bytes(8, "big")])
                assert statement.answer() == [(number * factor).to_bytes(8, "big")]
        prepared = other.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
        assert prepared == (2,)


def test_a_statement_answers_again_and_again(connection):
    """The same statement takes other parameters each time; a moment is the server's moment."""
    with psycopg.connect(connection.info.dsn, autocommit=True) as other:
        echo = Statement(other, ECHO)
        for number in range(3):
            moment = datetime(2024, 7, 4, tzinfo=UTC) + timedelta(microseconds=number)
            echo.send([wire.bigints([number, -1]), wire.timestamp(moment)])
            numbers, said = echo.answer()
            assert (wire.bigints_in(numbers), wire.timestamp_in(said)) == ([number, -1], moment)


def test_a_large_statement_is_sent_whole(connection):
    """More than any buffer holds arrives, though the server answers only when it has all."""
    with psycopg.connect(connection.info.dsn, autocommit=True) as other:
        size = Statement(other, "SELECT length($1::bytea)::bigint")
        size.send([bytes(20_000_000)])
        assert size.answer() == [(20_000_000).to_bytes(8, "big")]


def test_a_statement_raises_what_the_server_says(connection):
    """An error of the server is psycopg's error of that name, and the next request is answered."""
    with psycopg.connect(connection.info.dsn, autocommit=True) as other:
        divide = Statement(other, "SELECT 1 / $1::bigint")
        divide.send([(0).to_bytes(8, "big")])
        with pytest.raises(psycopg.errors.DivisionByZero):
            divide.answer()
        divide.send([(1).to_bytes(8, "big")])
        assert divide.answer() == [(1).to_bytes(8, "big")]
        with pytest.raises(psycopg.errors.UndefinedTable):
            Statement(other, "SELECT 1 FROM nowhere")


def test_a_statement_whose_connection_broke_is_an_operational_error(connection):
    """Whoever waits for an answer learns that the connection is gone."""
    with psycopg.connect(connection.info.dsn, autocommit=True) as other:
        slow = Statement(other, "SELECT pg_sleep($1)::text")
        slow.send([wire.double(60)])
        connection.execute("SELECT pg_terminate_backend(%s)", (other.info.backend_pid,))
        with pytest.raises(psycopg.OperationalError):
            slow.answer()


def test_an_old_schema_is_noticed_at_once(postgres):
    """Where the function is missing the statement cannot be prepared."""
    with (
        postgres.lent("ledger_wire_empty") as empty,
        psycopg.connect(empty.server_url, autocommit=True) as other,
        pytest.raises(psycopg.errors.UndefinedFunction),
    ):
        prepare_append(other)
