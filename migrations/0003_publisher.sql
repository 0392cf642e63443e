-- What the publisher remembers: how far each subscription got, and which sites wait.
--
-- Why not a row per delivery: a cursor costs a byte or two of WAL per delivery, a row costs
-- a thousand. Only a site that fails gets a row (its lane), holding the first version that
-- the receiver does not have; everything after it is read back from the log.

CREATE TABLE delivery_cursors (
    subscription_id uuid   NOT NULL REFERENCES subscriptions,
    partition       integer NOT NULL,
    position        bigint NOT NULL,
    PRIMARY KEY (subscription_id, partition)
) WITH (fillfactor = 50);

CREATE TABLE delivery_lanes (
    subscription_id uuid        NOT NULL REFERENCES subscriptions,
    partition       integer     NOT NULL,
    originator_id   uuid        NOT NULL,
    version         bigint      NOT NULL,
    failures        integer     NOT NULL CHECK (failures >= 0),
    next_attempt_at timestamptz NOT NULL,
    last_error      text        NOT NULL,
    PRIMARY KEY (subscription_id, partition, originator_id)
);

CREATE TABLE dead_letters (
    subscription_id uuid        NOT NULL REFERENCES subscriptions,
    partition       integer     NOT NULL,
    position        bigint      NOT NULL,
    originator_id   uuid        NOT NULL,
    version         bigint      NOT NULL,
    attempts        integer     NOT NULL,
    last_error      text        NOT NULL,
    died_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (subscription_id, partition, position)
);
