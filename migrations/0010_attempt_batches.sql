-- The journal of attempts in batches: a row for what one checkpoint notes of one feed.
--
-- Why not a row per attempt: it cost 130 bytes of WAL per delivery, half of them for an index by
-- time that no question used; as part of a batch an attempt costs under 30. The ring of days and
-- the function that empties it stay as they are.

DO $$
BEGIN
    ALTER TABLE delivery_attempts RENAME TO delivery_single_attempts;
    FOR slot IN 0..31 LOOP
        EXECUTE format(
            'ALTER TABLE delivery_attempts_%s RENAME TO delivery_single_attempts_%1$s',
            lpad(slot::text, 2, '0')
        );
    END LOOP;
END
$$;

-- The arrays run in parallel; seconds are counted from began_at, errors are absent where there
-- was none.
CREATE TABLE delivery_attempts (
    began_at     timestamptz NOT NULL,
    feed_id      uuid        NOT NULL,
    partition    integer     NOT NULL,
    ring         smallint    NOT NULL,
    positions    bigint[]    NOT NULL,
    seconds      real[]      NOT NULL,
    milliseconds real[]      NOT NULL,
    statuses     smallint[]  NOT NULL,
    errors       text[]
) PARTITION BY LIST (ring);

DO $$
BEGIN
    FOR slot IN 0..31 LOOP
        EXECUTE format(
            'CREATE TABLE delivery_attempts_%s PARTITION OF delivery_attempts FOR VALUES IN (%s)',
            lpad(slot::text, 2, '0'), slot
        );
    END LOOP;
END
$$;

INSERT INTO delivery_attempts (
    began_at, feed_id, partition, ring, positions, seconds, milliseconds, statuses, errors
)
SELECT date_trunc('minute', attempted_at), feed_id, partition, ring, array_agg(position ORDER BY attempted_at),
       array_agg(extract(epoch FROM attempted_at - date_trunc('minute', attempted_at))::real
                 ORDER BY attempted_at),
       array_agg(milliseconds ORDER BY attempted_at), array_agg(status ORDER BY attempted_at),
       array_agg(error ORDER BY attempted_at)
FROM delivery_single_attempts
GROUP BY feed_id, partition, ring, date_trunc('minute', attempted_at);

DROP TABLE delivery_single_attempts;
