-- An append writes what belongs to its events where it inserts them.
--
-- Why: append_events found each event that it had just inserted again, for the settings, for the
-- reason and for the key, and started a function of its own for each of them. And it looked for a
-- site's newest event along all of its versions that share a page of the index.
--
-- As before, nothing is written but with an event that this very call puts into the log, and what
-- becomes current is what the event itself says. An event that is offered again and is in the log
-- already brought its settings, reason and key with it then; what was erased since stays erased.

DROP FUNCTION append_events, keep_reasons, keep_idempotency_keys;

-- Appends what may be appended. Where that was all, `first_position` and `last_position` say where the
-- offered events are, in the order of the offer. Otherwise `positions` says where each of them is in
-- the log now; null where it is not.
--
-- `base_leaves` gives for every originator in `bases` the leaf that its first offered event follows,
-- and `base_versions` the version of that leaf's event, 0 where there is none: an originator that
-- has moved on since gets none of its events appended, and with `together` nobody does. Offering the same events again is safe:
-- what is there already is reported, not repeated. The events were stamped between `first_stamp`
-- and `last_stamp`: nothing is appended where the first is `patience` seconds old or more, or the
-- last as much ahead of the clock. One that is ahead by less is waited for, so that no answer
-- comes before its event's time. `clock` says when the call arrived, before it waited for the
-- lock. Nor is anything appended where one of `actor_refs` was erased: it would be nobody's change.
--
-- `are_current` marks the events whose settings are current from then on: each originator's last.
--
-- Why plpgsql: each of its statements sees what was committed before it began, so those behind
-- the lock see what was committed while it was waited for.
CREATE FUNCTION append_events(
    of_partition integer, lock_namespace integer,
    originators uuid[], versions bigint[], topics text[], states bytea[], leaves bytea[],
    are_current boolean[],
    bases uuid[], base_versions bigint[], base_leaves bytea[], together boolean,
    first_stamp timestamptz, last_stamp timestamptz, patience double precision,
    actor_refs uuid[],
    note_refs uuid[], note_sites uuid[], note_texts text[], note_salts bytea[],
    note_originators uuid[],
    keys_kept_for double precision, key_originators uuid[], key_credentials text[],
    key_hashes bytea[], key_requests bytea[], key_versions bigint[],
    OUT first_position bigint, OUT last_position bigint, OUT positions bigint[], OUT clock timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    unmoved uuid[];
    whole boolean;
    erased boolean;
    begun timestamptz;
    head bigint;
    changed integer;
BEGIN
    clock := clock_timestamp();
    -- An expression: what is a query takes a while to start. There are as few of them as can be.
    whole := pg_advisory_xact_lock(lock_namespace, of_partition) IS NULL;
    begun := clock_timestamp();
    SELECT ARRAY(
        SELECT base.originator_id
        FROM unnest(bases, base_versions, base_leaves) AS base (originator_id, version, leaf_hash)
        WHERE base.leaf_hash IS NOT DISTINCT FROM (
            SELECT newest.leaf_hash FROM events AS newest
            WHERE newest.partition = of_partition AND newest.originator_id = base.originator_id
              -- An index reads all that fits on a page, so let it be no more than needed.
              AND newest.originator_version >= base.version
            ORDER BY newest.originator_version DESC LIMIT 1
        )
    ), EXISTS (
        SELECT FROM unnest(actor_refs) AS named (ref)
        -- Said so that no index but the primary key's serves, whatever the statistics say.
        WHERE named.ref IS DISTINCT FROM (
            SELECT actors.ref FROM actors
            WHERE actors.partition = of_partition
              AND actors.ref >= named.ref AND actors.ref <= named.ref
            ORDER BY actors.ref LIMIT 1
        )
    ), (
        SELECT coalesce(max(position), 0) FROM events WHERE partition = of_partition
    ) INTO unmoved, erased, head;
    whole := cardinality(unmoved) = cardinality(bases);
    IF erased OR (together AND NOT whole)
        OR begun - first_stamp >= make_interval(secs => patience)
        OR last_stamp - begun >= make_interval(secs => patience)
    THEN
        whole := false;
        unmoved := '{}';
    ELSIF last_stamp > begun THEN
        PERFORM pg_sleep_until(last_stamp);
    END IF;

    IF cardinality(unmoved) > 0 THEN
        WITH offered AS MATERIALIZED (
            SELECT head + row_number() OVER (ORDER BY given.place) AS position, given.*
            FROM unnest(originators, versions, topics, states, leaves, are_current)
                WITH ORDINALITY AS given (
                    originator_id, originator_version, topic, state, leaf_hash, is_current, place)
            WHERE whole OR given.originator_id = ANY (unmoved)
        ), appended AS (
            INSERT INTO events (
                partition, position, originator_id, originator_version, topic, state, leaf_hash
            )
            SELECT of_partition, position, originator_id, originator_version, topic, state,
                   leaf_hash
            FROM offered
        )
        UPDATE current_settings AS standing
        SET version = event.originator_version, position = event.position,
            leaf_hash = event.leaf_hash, settings = event.facts -> 'settings',
            updated_at = (event.facts ->> 'timestamp')::timestamptz
        FROM (
            SELECT offered.*, convert_from(offered.state, 'UTF8')::jsonb AS facts
            FROM offered WHERE offered.is_current
            OFFSET 0
        ) AS event
        -- From behind: the newest version of a row is behind those that some snapshot keeps.
        WHERE standing.ctid = (
            SELECT found.ctid FROM current_settings AS found
            WHERE found.partition = of_partition
              AND found.originator_id >= event.originator_id
              AND found.originator_id <= event.originator_id
            ORDER BY found.originator_id DESC LIMIT 1
        ) AND standing.version < event.originator_version;
        GET DIAGNOSTICS changed = ROW_COUNT;
        IF changed < cardinality(unmoved) THEN
            -- There are some that stand for the first time.
            PERFORM apply_current_settings(
                of_partition, array_agg(event.originator_id),
                array_agg(event.originator_version), array_agg(event.leaf_hash))
            FROM unnest(originators, versions, leaves, are_current)
                AS event (originator_id, originator_version, leaf_hash, is_current)
            WHERE event.is_current;
        END IF;

        IF cardinality(note_refs) > 0 THEN
            INSERT INTO reasons (ref, partition, site_id, text, salt)
            SELECT note.ref, of_partition, note.site_id, note.text, note.salt
            FROM unnest(note_refs, note_sites, note_texts, note_salts, note_originators)
                AS note (ref, site_id, text, salt, originator_id)
            WHERE whole OR note.originator_id = ANY (unmoved);
        END IF;
        IF cardinality(key_hashes) > 0 THEN
            INSERT INTO idempotency_keys AS kept (
                partition, originator_id, credential, key_hash, request_hash, version, used_at
            )
            SELECT of_partition, key.originator_id, key.credential, key.key_hash,
                   key.request_hash, key.version, clock_timestamp()
            FROM unnest(key_originators, key_credentials, key_hashes, key_requests, key_versions)
                AS key (originator_id, credential, key_hash, request_hash, version)
            WHERE whole OR key.originator_id = ANY (unmoved)
            ON CONFLICT (partition, originator_id, credential, key_hash) DO UPDATE
            SET request_hash = excluded.request_hash, version = excluded.version,
                used_at = excluded.used_at
            WHERE kept.version < excluded.version;
            -- Twice as many go as come, so that the table holds what it must without a sweeper.
            DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(
                SELECT expired.ctid FROM idempotency_keys AS expired
                WHERE expired.partition = of_partition
                  AND expired.used_at <= clock_timestamp() - make_interval(secs => keys_kept_for)
                ORDER BY expired.used_at LIMIT 2 * cardinality(key_hashes)
            ));
        END IF;
    END IF;

    IF whole THEN
        first_position := head + 1;
        last_position := head + cardinality(originators);
    ELSE
        positions := ARRAY(
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
        );
    END IF;
END
$$;
