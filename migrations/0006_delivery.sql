-- How each subscription is served, and who serves it.
--
-- Why a feed_id: a replay is delivered like a subscription, with a cursor and lanes of its own
-- beside the live ones. The live feed of a subscription has the subscription's id.
-- Why an epoch on the cursor: whoever takes a feed over raises it, and every later write of the
-- one before is refused. Operators who move a cursor raise it, too.

ALTER TABLE delivery_cursors DROP CONSTRAINT delivery_cursors_subscription_id_fkey;
ALTER TABLE delivery_cursors RENAME COLUMN subscription_id TO feed_id;
-- First and last of each stretch of positions beyond the cursor that are done with.
ALTER TABLE delivery_cursors ADD COLUMN beyond bigint[] NOT NULL DEFAULT '{}';
ALTER TABLE delivery_cursors ADD COLUMN epoch bigint NOT NULL DEFAULT 0;

ALTER TABLE delivery_lanes DROP CONSTRAINT delivery_lanes_subscription_id_fkey;
ALTER TABLE delivery_lanes RENAME COLUMN subscription_id TO feed_id;
-- The one version that a lane retries by itself; 0: it leads on to the site's later versions.
ALTER TABLE delivery_lanes ADD COLUMN alone bigint NOT NULL DEFAULT 0;
ALTER TABLE delivery_lanes DROP CONSTRAINT delivery_lanes_pkey;
ALTER TABLE delivery_lanes ADD PRIMARY KEY (feed_id, partition, originator_id, alone);

ALTER TABLE dead_letters ADD COLUMN dead_letter_id bigint GENERATED ALWAYS AS IDENTITY UNIQUE;

-- What differs from the defaults; a subscription without a row is served in order.
CREATE TABLE delivery_policies (
    subscription_id uuid   PRIMARY KEY REFERENCES subscriptions,
    policy          text   NOT NULL CHECK (policy IN ('ordered', 'wix', 'latest')),
    delays          float8[],
    timeout         float8  CHECK (timeout > 0),
    in_flight       integer CHECK (in_flight > 0),
    per_second      float8  CHECK (per_second > 0)
);

CREATE TABLE delivery_pauses (
    subscription_id uuid        PRIMARY KEY REFERENCES subscriptions,
    reason          text        NOT NULL,
    paused_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- A replay on one partition: (after_position, until_position], of all sites or of some.
CREATE TABLE delivery_replays (
    replay_id       uuid        NOT NULL,
    partition       integer     NOT NULL,
    subscription_id uuid        NOT NULL REFERENCES subscriptions,
    after_position  bigint      NOT NULL,
    until_position  bigint      NOT NULL,
    sites           uuid[],
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at     timestamptz,
    PRIMARY KEY (replay_id, partition)
);
CREATE INDEX delivery_replays_under_way ON delivery_replays (subscription_id)
    WHERE finished_at IS NULL;
