-- The directory: sites, apps and the credentials and subscriptions that belong to them.
--
-- Why positions stand beside installations and subscriptions: an app receives the events
-- that were appended while it was installed and subscribed, and the log's own order is the
-- only clock on which "while" has an exact meaning.

CREATE TABLE ledger_facts (
    name  text PRIMARY KEY,
    value text NOT NULL
);

CREATE TABLE sites (
    site_id    uuid        PRIMARY KEY,
    partition  integer     NOT NULL REFERENCES partitions,
    name       text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE apps (
    app_id      uuid        PRIMARY KEY,
    name        text        NOT NULL,
    scopes      text[]      NOT NULL,
    secret_hash bytea       NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE signing_keys (
    kid           text        PRIMARY KEY,
    app_id        uuid        NOT NULL REFERENCES apps,
    algorithm     text        NOT NULL,
    public_pem    text        NOT NULL,
    private_key   bytea       NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    retired_at    timestamptz
);
CREATE INDEX signing_keys_by_app ON signing_keys (app_id, created_at);

CREATE TABLE installations (
    instance_id     uuid        PRIMARY KEY,
    app_id          uuid        NOT NULL REFERENCES apps,
    site_id         uuid        NOT NULL REFERENCES sites,
    partition       integer     NOT NULL,
    after_position  bigint      NOT NULL,
    until_position  bigint,
    installed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    uninstalled_at  timestamptz,
    CHECK ((until_position IS NULL) = (uninstalled_at IS NULL))
);
CREATE UNIQUE INDEX installations_once_per_site ON installations (app_id, site_id)
    WHERE uninstalled_at IS NULL;
CREATE INDEX installations_by_site ON installations (site_id);

CREATE TABLE api_keys (
    prefix      text        PRIMARY KEY,
    key_hash    bytea       NOT NULL,
    site_id     uuid        NOT NULL REFERENCES sites,
    wix_user_id uuid        NOT NULL,
    scopes      text[]      NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at  timestamptz
);
CREATE INDEX api_keys_by_site ON api_keys (site_id);

CREATE TABLE subscriptions (
    subscription_id uuid        PRIMARY KEY,
    app_id          uuid        NOT NULL REFERENCES apps,
    event_type      text        NOT NULL,
    url             text        NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at      timestamptz
);
CREATE INDEX subscriptions_by_app ON subscriptions (app_id);

-- From which position on (exclusive), and until which (inclusive), a subscription receives.
-- A partition without a row was added later and is received from its beginning.
CREATE TABLE subscription_spans (
    subscription_id uuid    NOT NULL REFERENCES subscriptions,
    partition       integer NOT NULL,
    after_position  bigint  NOT NULL,
    until_position  bigint,
    PRIMARY KEY (subscription_id, partition)
);
