-- TLS client certificates, by which a receiver knows who calls.
--
-- Why a table of its own: few subscriptions have one, and the key, encrypted like the apps'
-- signing keys, must not be near what is listed. Fingerprint, subject and end stand beside the
-- certificate so that nobody parses it to show or to compare it.

CREATE TABLE subscription_certificates (
    subscription_id uuid        PRIMARY KEY REFERENCES subscriptions,
    -- SHA-256 of the certificate, in hexadecimal.
    fingerprint     text        NOT NULL,
    subject         text        NOT NULL,
    expires_at      timestamptz NOT NULL,
    -- The certificate, and the chain behind it.
    certificate_pem text        NOT NULL,
    private_key     bytea       NOT NULL,
    added_at        timestamptz NOT NULL DEFAULT clock_timestamp()
);
