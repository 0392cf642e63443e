-- What auditors ask: one row per event, and one per field that an event touched.
--
-- Why beside the log: an event holds its facts as bytes, which no index can look into. These
-- tables are derived from the log alone, by a follower, outside the append's transaction, and
-- can be rebuilt from it at any time. They hold no name and no prose: `actors` and `reasons`
-- are joined when somebody reads, so that erasing there is enough.
--
-- Why a second table for fields: "which change set this field last" must cost the same
-- whether that was yesterday or a hundred thousand changes ago.
--
-- Names of indexes and constraints matter to no program: a rebuild makes the same ones anew
-- from this database's catalogue.

CREATE TABLE settings_history (
    partition         integer     NOT NULL,
    position          bigint      NOT NULL,
    originator_id     uuid        NOT NULL,
    version           bigint      NOT NULL,
    site_id           uuid        NOT NULL,
    kind              text        NOT NULL,
    recorded_at       timestamptz NOT NULL,
    event_id          uuid        NOT NULL,
    actor_type        text,
    actor_ref         uuid,
    on_behalf_of_type text,
    on_behalf_of_ref  uuid,
    reason_ref        uuid,
    origin            text,
    channel           text        NOT NULL,
    credential        text,
    asserted          boolean     NOT NULL,
    request_id        text,
    fields            text[]      NOT NULL,
    changes           jsonb       NOT NULL,
    settings          jsonb       NOT NULL,
    PRIMARY KEY (partition, position)
);
CREATE UNIQUE INDEX settings_history_by_version
    ON settings_history (partition, originator_id, version);
CREATE INDEX settings_history_by_site
    ON settings_history (partition, originator_id, recorded_at, position);
CREATE INDEX settings_history_by_time
    ON settings_history (partition, recorded_at, position);
CREATE INDEX settings_history_by_actor
    ON settings_history (partition, actor_ref, recorded_at, position);
CREATE INDEX settings_history_by_principal
    ON settings_history (partition, on_behalf_of_ref, recorded_at, position)
    WHERE on_behalf_of_ref IS NOT NULL;
CREATE INDEX settings_history_with_origin
    ON settings_history (partition, recorded_at, position) WHERE origin IS NOT NULL;
CREATE INDEX settings_history_with_reason
    ON settings_history (partition, recorded_at, position) WHERE reason_ref IS NOT NULL;

CREATE TABLE settings_history_fields (
    partition     integer     NOT NULL,
    originator_id uuid        NOT NULL,
    field         text        NOT NULL,
    version       bigint      NOT NULL,
    position      bigint      NOT NULL,
    recorded_at   timestamptz NOT NULL,
    PRIMARY KEY (partition, originator_id, field, version)
);
CREATE INDEX settings_history_fields_by_time
    ON settings_history_fields (partition, field, recorded_at, position);

-- How far each projection that follows the log has got; moved with the rows it stands for.
CREATE TABLE projection_cursors (
    projection text    NOT NULL,
    partition  integer NOT NULL,
    position   bigint  NOT NULL CHECK (position >= 0),
    PRIMARY KEY (projection, partition)
) WITH (fillfactor = 50);

-- Whom an id belongs to, whatever the site: searches over all sites begin here.
CREATE INDEX actors_by_subject ON actors (subject_id);
