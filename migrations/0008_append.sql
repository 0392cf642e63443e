-- An append is one call: lock, look, insert, and all that is written with the events.
--
-- Why a function: it is one statement in one round trip, prepared once, and it commits by itself.
-- As statements of a client the same took three to five times as long, most of it the client's.
-- It is the unit that a distributed PostgreSQL can carry to where a partition lies.
--
-- Why plpgsql: each of its statements sees what was committed before it began, so those behind
-- the lock see what was committed while it was waited for. One statement that locked and looked
-- would look at the moment before the wait.

-- Takes on those of the named events that are in the log, as the newest of their sites. The
-- partition's lock must be held. A row never goes back to an earlier version, so the same events
-- may be named again; what becomes current is what the event itself says, and nothing else.
CREATE FUNCTION apply_current_settings(
    of_partition integer, originators uuid[], versions bigint[], leaves bytea[]
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO current_settings AS standing (
        partition, originator_id, site_id, kind, version, position, leaf_hash, settings,
        created_at, updated_at
    )
    SELECT of_partition, named.originator_id, (event.facts ->> 'site_id')::uuid,
           event.facts ->> 'kind', named.version, event.position, named.leaf_hash,
           event.facts -> 'settings',
           CASE WHEN named.version = 1 THEN event.stamp ELSE coalesce((
               SELECT kept.created_at FROM current_settings AS kept
               WHERE kept.partition = of_partition AND kept.originator_id = named.originator_id
           ), (
               SELECT (convert_from(first.state, 'UTF8')::jsonb ->> 'timestamp')::timestamptz
               FROM events AS first
               WHERE first.partition = of_partition AND first.originator_id = named.originator_id
               ORDER BY first.originator_version LIMIT 1
           )) END,
           event.stamp
    FROM unnest(originators, versions, leaves) AS named (originator_id, version, leaf_hash)
    CROSS JOIN LATERAL (
        SELECT read.position, read.facts, (read.facts ->> 'timestamp')::timestamptz AS stamp
        FROM (
            SELECT events.position, convert_from(events.state, 'UTF8')::jsonb AS facts FROM events
            WHERE events.partition = of_partition
              AND events.originator_id = named.originator_id
              AND events.originator_version = named.version
              AND events.leaf_hash = named.leaf_hash
            OFFSET 0
        ) AS read
        OFFSET 0
    ) AS event
    ON CONFLICT (partition, originator_id) DO UPDATE
    SET version = excluded.version, position = excluded.position,
        leaf_hash = excluded.leaf_hash, settings = excluded.settings,
        updated_at = excluded.updated_at
    WHERE standing.version < excluded.version
$$;

-- Keeps each reason whose event is in the log.
CREATE FUNCTION keep_reasons(
    of_partition integer, refs uuid[], sites uuid[], texts text[], salts bytea[],
    originators uuid[], versions bigint[], leaves bytea[]
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO reasons (ref, partition, site_id, text, salt)
    SELECT note.ref, of_partition, note.site_id, note.text, note.salt
    FROM unnest(refs, sites, texts, salts, originators, versions, leaves)
        AS note (ref, site_id, text, salt, originator_id, version, leaf_hash)
    CROSS JOIN LATERAL (
        SELECT FROM events
        WHERE events.partition = of_partition AND events.originator_id = note.originator_id
          AND events.originator_version = note.version AND events.leaf_hash = note.leaf_hash
        LIMIT 1
    ) AS recorded
    ON CONFLICT (partition, ref) DO NOTHING
$$;

-- Remembers each idempotency key whose event is in the log, and forgets old ones: twice as many
-- go as come, so that the table holds what it must without a sweeper.
CREATE FUNCTION keep_idempotency_keys(
    of_partition integer, kept_for double precision, originators uuid[], credentials text[],
    keys bytea[], requests bytea[], versions bigint[], leaves bytea[]
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO idempotency_keys AS kept (
        partition, originator_id, credential, key_hash, request_hash, version, used_at
    )
    SELECT of_partition, key.originator_id, key.credential, key.key_hash, key.request_hash,
           key.version, clock_timestamp()
    FROM unnest(originators, credentials, keys, requests, versions, leaves)
        AS key (originator_id, credential, key_hash, request_hash, version, leaf_hash)
    CROSS JOIN LATERAL (
        SELECT FROM events
        WHERE events.partition = of_partition AND events.originator_id = key.originator_id
          AND events.originator_version = key.version AND events.leaf_hash = key.leaf_hash
        LIMIT 1
    ) AS recorded
    ON CONFLICT (partition, originator_id, credential, key_hash) DO UPDATE
    SET request_hash = excluded.request_hash, version = excluded.version,
        used_at = excluded.used_at
    WHERE kept.version < excluded.version;
    DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(
        SELECT expired.ctid FROM idempotency_keys AS expired
        WHERE expired.partition = of_partition
          AND expired.used_at <= clock_timestamp() - make_interval(secs => kept_for)
        ORDER BY expired.used_at LIMIT 2 * cardinality(keys)
    ))
$$;

-- Appends what may be appended. `positions` says where each offered event is in the log now, in
-- the order of the offer; null where it is not.
--
-- `base_leaves` gives for every originator in `bases` the leaf that its first offered event
-- follows: an originator that has moved on since gets none of its events appended, and with
-- `together` nobody does. Offering the same events again is safe: what is there already is
-- reported, not repeated, and what was written beside it is not written again: it may have been
-- erased since. The events were stamped between `first_stamp` and `last_stamp`: nothing is
-- appended where the first is `patience` seconds old or more, or the last as much ahead of the
-- clock. One that is ahead by less is waited for, so that no answer comes before its event's time.
-- `clock` says when the call arrived, before it waited for the lock.
-- Nor is anything appended where one of `actor_refs` was erased: it would be nobody's change.
CREATE FUNCTION append_events(
    of_partition integer, lock_namespace integer,
    originators uuid[], versions bigint[], topics text[], states bytea[], leaves bytea[],
    bases uuid[], base_leaves bytea[], together boolean,
    first_stamp timestamptz, last_stamp timestamptz, patience double precision,
    actor_refs uuid[],
    current_originators uuid[], current_versions bigint[], current_leaves bytea[],
    note_refs uuid[], note_sites uuid[], note_texts text[], note_salts bytea[],
    note_originators uuid[], note_versions bigint[], note_leaves bytea[],
    keys_kept_for double precision, key_originators uuid[], key_credentials text[],
    key_hashes bytea[], key_requests bytea[], key_versions bigint[], key_leaves bytea[],
    OUT positions bigint[], OUT clock timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    unmoved uuid[];
    whole boolean;
    begun timestamptz;
    head bigint;
BEGIN
    clock := clock_timestamp();
    PERFORM pg_advisory_xact_lock(lock_namespace, of_partition);
    begun := clock_timestamp();
    unmoved := ARRAY(
        SELECT base.originator_id
        FROM unnest(bases, base_leaves) AS base (originator_id, leaf_hash)
        WHERE base.leaf_hash IS NOT DISTINCT FROM (
            SELECT newest.leaf_hash FROM events AS newest
            WHERE newest.partition = of_partition AND newest.originator_id = base.originator_id
            ORDER BY newest.originator_version DESC LIMIT 1
        )
    );
    whole := cardinality(unmoved) = cardinality(bases);
    IF begun - first_stamp >= make_interval(secs => patience)
        OR last_stamp - begun >= make_interval(secs => patience)
        OR EXISTS (
            SELECT FROM unnest(actor_refs) AS named (ref)
            -- Said so that no index but the primary key's serves, whatever the statistics say.
            WHERE named.ref IS DISTINCT FROM (
                SELECT actors.ref FROM actors
                WHERE actors.partition = of_partition AND actors.ref >= named.ref
                ORDER BY actors.ref LIMIT 1
            )
        )
        OR (together AND NOT whole)
    THEN
        whole := false;
        unmoved := '{}';
    ELSIF last_stamp > begun THEN
        PERFORM pg_sleep_until(last_stamp);
    END IF;
    head := (SELECT coalesce(max(position), 0) FROM events WHERE partition = of_partition);
    INSERT INTO events (
        partition, position, originator_id, originator_version, topic, state, leaf_hash
    )
    SELECT of_partition, head + row_number() OVER (ORDER BY offered.place),
           offered.originator_id, offered.originator_version, offered.topic, offered.state,
           offered.leaf_hash
    FROM unnest(originators, versions, topics, states, leaves) WITH ORDINALITY
        AS offered (originator_id, originator_version, topic, state, leaf_hash, place)
    WHERE whole OR offered.originator_id = ANY (unmoved);
    IF cardinality(unmoved) > 0 AND cardinality(current_originators) > 0 THEN
        PERFORM apply_current_settings(
            of_partition, current_originators, current_versions, current_leaves);
    END IF;
    IF cardinality(unmoved) > 0 AND cardinality(note_refs) > 0 THEN
        PERFORM keep_reasons(
            of_partition, note_refs, note_sites, note_texts, note_salts,
            note_originators, note_versions, note_leaves);
    END IF;
    IF cardinality(unmoved) > 0 AND cardinality(key_hashes) > 0 THEN
        PERFORM keep_idempotency_keys(
            of_partition, keys_kept_for, key_originators, key_credentials,
            key_hashes, key_requests, key_versions, key_leaves);
    END IF;
    positions := CASE
        WHEN whole THEN
            ARRAY(SELECT generate_series(head + 1, head + cardinality(originators)))
        ELSE ARRAY(
            SELECT (
                SELECT known.position FROM events AS known
                WHERE known.partition = of_partition
                  AND known.originator_id = offered.originator_id
                  AND known.originator_version = offered.originator_version
                  AND known.leaf_hash = offered.leaf_hash
                LIMIT 1
            )
            FROM unnest(originators, versions, leaves) WITH ORDINALITY
                AS offered (originator_id, originator_version, leaf_hash, place)
            ORDER BY offered.place
        ) END;
END
$$;
