-- Secrets that overlap and keys that outlive their use, so that rotating one breaks nobody.
--
-- Why a table of secrets: for a while after a rotation the old secret and the new one both hold,
-- each shows its prefix in lists, and a leaked one is revoked at once with the tokens that it got.
-- Why a public key is published until a time of its own: deliveries that were signed before a
-- rotation are verified after it.

CREATE TABLE app_secrets (
    prefix      text        PRIMARY KEY,
    app_id      uuid        NOT NULL REFERENCES apps,
    secret_hash bytea       NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at  timestamptz,
    revoked_at  timestamptz,
    -- What is revoked has expired, too.
    CHECK (revoked_at IS NULL OR expires_at IS NOT NULL)
);
CREATE INDEX app_secrets_by_app ON app_secrets (app_id, created_at);

-- Secrets made before this had no prefix of their own: the beginning of the hash stands for it.
INSERT INTO app_secrets (prefix, app_id, secret_hash, created_at)
SELECT 'sls_' || substr(encode(secret_hash, 'hex'), 1, 12), app_id, secret_hash, created_at
FROM apps;

ALTER TABLE apps DROP COLUMN secret_hash;

ALTER TABLE signing_keys ADD COLUMN published_until timestamptz;

-- What servers ask every few seconds: which tokens that have not expired hold no longer.
CREATE INDEX app_secrets_revoked ON app_secrets (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX installations_ended ON installations (uninstalled_at)
    WHERE uninstalled_at IS NOT NULL;
