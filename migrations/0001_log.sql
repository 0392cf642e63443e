-- The log, and what is written in the same transaction as the log.
--
-- Why these shapes: every table that follows from events leads its primary key with the
-- partition, so that a partition is one ordered, movable unit. Positions are handed out as
-- max(position) + 1 under an advisory lock, so that the order of positions is the order of
-- commits and a reader needs nothing but "position > cursor".

CREATE TABLE partitions (
    partition integer PRIMARY KEY CHECK (partition >= 0),
    added_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO partitions (partition) VALUES (0);

CREATE TABLE events (
    partition          integer NOT NULL,
    position           bigint  NOT NULL CHECK (position > 0),
    originator_id      uuid    NOT NULL,
    originator_version bigint  NOT NULL CHECK (originator_version >= 0),
    topic              text    NOT NULL,
    state              bytea   NOT NULL,
    leaf_hash          bytea   NOT NULL CHECK (octet_length(leaf_hash) = 32),
    PRIMARY KEY (partition, position),
    UNIQUE (partition, originator_id, originator_version)
);

CREATE FUNCTION refuse_to_rewrite_history() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are never altered: % refused on %', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER events_are_never_altered
    BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_rewrite_history();
-- ALWAYS: session_replication_role = replica must not open a back door.
ALTER TABLE events ENABLE ALWAYS TRIGGER events_are_never_altered;

-- Who acted, beside the log: an event holds only the reference and the commitment, so that
-- erasing a person is deleting a row here and leaves log and hashes whole.
CREATE TABLE actors (
    ref        uuid    NOT NULL,
    partition  integer NOT NULL,
    site_id    uuid    NOT NULL,
    type       text    NOT NULL,
    subject_id text    NOT NULL,
    salt       bytea   NOT NULL CHECK (octet_length(salt) = 32),
    PRIMARY KEY (partition, ref),
    UNIQUE (partition, site_id, type, subject_id)
);

CREATE TABLE reasons (
    ref       uuid    NOT NULL,
    partition integer NOT NULL,
    site_id   uuid    NOT NULL,
    text      text    NOT NULL,
    salt      bytea   NOT NULL CHECK (octet_length(salt) = 32),
    PRIMARY KEY (partition, ref)
);

CREATE TABLE idempotency_keys (
    partition     integer     NOT NULL,
    originator_id uuid        NOT NULL,
    credential    text        NOT NULL,
    key_hash      bytea       NOT NULL,
    request_hash  bytea       NOT NULL,
    version       bigint      NOT NULL,
    used_at       timestamptz NOT NULL,
    PRIMARY KEY (partition, originator_id, credential, key_hash)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (partition, used_at);

-- The settings as they stand, changed in the append's own transaction. Room is left on each
-- page because rows are updated in place, again and again.
CREATE TABLE current_settings (
    partition     integer     NOT NULL,
    originator_id uuid        NOT NULL,
    site_id       uuid        NOT NULL,
    kind          text        NOT NULL,
    version       bigint      NOT NULL,
    position      bigint      NOT NULL,
    leaf_hash     bytea       NOT NULL,
    settings      jsonb       NOT NULL,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    PRIMARY KEY (partition, originator_id)
) WITH (fillfactor = 70);
