-- What a batch of changes is decided on is one look: the settings that stand, the idempotency
-- keys that were used, who is known, and the time.
--
-- Why one statement: it sees one moment. A key and the event that it came with are committed
-- together, so either both are seen, and the request is a repetition; or neither, and then the
-- append finds that the site has moved on, and the request is decided again. Looking for keys
-- before settings, in two moments, would record such a request twice.
--
-- Why arrays: a batch is read in one row, without naming or converting each value. `…_places`
-- say which of the wanted ones were found, counted from one; null where none was.
--
-- Why from behind: old versions of a row stay as long as anybody's snapshot may see them, in the
-- index as well, and the newest is behind them.
--
-- Why the first actor from the wanted one on: said so, no index but the one that begins with the
-- site serves, whatever the statistics say. Another leads past every site that somebody acted on.
--
-- Why STABLE and set-returning: such a function becomes a part of the query that calls it, and is
-- planned once for a connection.
CREATE FUNCTION read_surroundings(
    of_partition integer, originators uuid[],
    key_originators uuid[], key_credentials text[], key_hashes bytea[], keys_kept_for double precision,
    actor_sites uuid[], actor_types text[], actor_ids text[]
) RETURNS TABLE (
    standing_places bigint[], standing_versions bigint[], standing_positions bigint[],
    standing_leaves bytea[], standing_settings jsonb[], created_times timestamptz[],
    updated_times timestamptz[],
    key_places bigint[], key_requests bytea[], key_versions bigint[],
    actor_places bigint[], actor_refs uuid[], actor_salts bytea[]
) LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT standing.*, used.*, known.*
    FROM (
        SELECT array_agg(wanted.place), array_agg(found.version), array_agg(found.position),
               array_agg(found.leaf_hash), array_agg(found.settings), array_agg(found.created_at),
               array_agg(found.updated_at)
        FROM unnest(originators) WITH ORDINALITY AS wanted (originator_id, place)
        CROSS JOIN LATERAL (
            SELECT * FROM current_settings
            WHERE partition = of_partition AND originator_id >= wanted.originator_id
              AND originator_id <= wanted.originator_id
            ORDER BY originator_id DESC LIMIT 1
        ) AS found
    ) AS standing, (
        SELECT array_agg(wanted.place), array_agg(found.request_hash), array_agg(found.version)
        FROM unnest(key_originators, key_credentials, key_hashes) WITH ORDINALITY
            AS wanted (originator_id, credential, key_hash, place)
        CROSS JOIN LATERAL (
            SELECT * FROM idempotency_keys
            WHERE partition = of_partition AND originator_id = wanted.originator_id
              AND credential = wanted.credential AND key_hash = wanted.key_hash
            LIMIT 1
        ) AS found
        WHERE found.used_at > clock_timestamp() - make_interval(secs => keys_kept_for)
    ) AS used, (
        SELECT array_agg(wanted.place), array_agg(found.ref), array_agg(found.salt)
        FROM unnest(actor_sites, actor_types, actor_ids) WITH ORDINALITY
            AS wanted (site_id, type, subject_id, place)
        CROSS JOIN LATERAL (
            SELECT * FROM actors
            WHERE (partition, site_id, type, subject_id)
               >= (of_partition, wanted.site_id, wanted.type, wanted.subject_id)
            ORDER BY partition, site_id, type, subject_id LIMIT 1
        ) AS found
        WHERE found.partition = of_partition AND found.site_id = wanted.site_id
          AND found.type = wanted.type AND found.subject_id = wanted.subject_id
    ) AS known
$$;
