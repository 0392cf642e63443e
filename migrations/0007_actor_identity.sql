-- Whoever acts on thousands of sites is found as fast as whoever acts on one.
--
-- Why: an actor is a reference of its own on each site, so that events say nothing of the same
-- person elsewhere. A search over all sites had to probe each reference. Now all references of
-- one (type, id) share a random number, and so do the rows of the history: one page of a search
-- is one walk along an index. The number says nothing of anybody; it is nowhere but in `actors`
-- and in tables that are derived, never in an event. Two writers who meet somebody for the first
-- time at once may give two numbers: a search takes both.
--
-- Why a trigger: with a number shared between sites, who was erased on one site could be told
-- from the same number on another. So deleting from `actors` takes it out of the history, too.
-- It waits for a rebuild that is under way (the lock is PROJECTION_LOCK, REBUILDING), and for
-- whoever follows the log: both may have read the actor already.
--
-- Why a hash of the value beside the field: which change set a field to this, or any field, is
-- one walk along an index however rare the value is.
--
-- Why USING: it writes each table once, without dead rows, and makes its indexes by sorting.
-- Reads and writes wait meanwhile, about half a minute for each million changes.

ALTER TABLE actors ADD COLUMN identity uuid NOT NULL DEFAULT gen_random_uuid();
WITH subject AS MATERIALIZED (
    SELECT type, subject_id, gen_random_uuid() AS identity FROM actors GROUP BY type, subject_id
)
UPDATE actors SET identity = subject.identity FROM subject
WHERE actors.type = subject.type AND actors.subject_id = subject.subject_id;
DROP INDEX actors_by_subject;
CREATE INDEX actors_by_subject ON actors (subject_id, type, identity);
ANALYZE actors;

ALTER TABLE settings_history
    ADD COLUMN actor_identity uuid, ADD COLUMN on_behalf_of_identity uuid;
CREATE FUNCTION pg_temp.identity_of(integer, uuid) RETURNS uuid LANGUAGE sql STABLE AS
    'SELECT identity FROM actors WHERE partition = $1 AND ref = $2';
ALTER TABLE settings_history
    ALTER COLUMN actor_identity TYPE uuid USING pg_temp.identity_of(partition, actor_ref),
    ALTER COLUMN on_behalf_of_identity TYPE uuid
        USING pg_temp.identity_of(partition, on_behalf_of_ref);
CREATE INDEX settings_history_by_identity
    ON settings_history (partition, actor_identity, recorded_at, position)
    WHERE actor_identity IS NOT NULL;
CREATE INDEX settings_history_for_identity
    ON settings_history (partition, on_behalf_of_identity, recorded_at, position)
    WHERE on_behalf_of_identity IS NOT NULL;
ANALYZE settings_history;

-- Of what a field was set to; none for what encloses others, and where nothing was left.
ALTER TABLE settings_history_fields ADD COLUMN value_hash bigint;
CREATE FUNCTION pg_temp.value_hash_of(integer, uuid, bigint, text) RETURNS bigint
    LANGUAGE sql STABLE AS
    'SELECT jsonb_hash_extended(changes -> $4 -> ''to'', 0) FROM settings_history
     WHERE partition = $1 AND originator_id = $2 AND version = $3';
ALTER TABLE settings_history_fields ALTER COLUMN value_hash TYPE bigint
    USING pg_temp.value_hash_of(partition, originator_id, version, field);
CREATE INDEX settings_history_fields_by_value
    ON settings_history_fields (partition, field, value_hash, recorded_at, position)
    WHERE value_hash IS NOT NULL;
ANALYZE settings_history_fields;
DROP FUNCTION pg_temp.identity_of, pg_temp.value_hash_of;

CREATE FUNCTION wait_for_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1397051474, -1);
    PERFORM FROM projection_cursors WHERE projection = 'settings_history'
        ORDER BY partition FOR UPDATE;
    RETURN NULL;
END
$$;
CREATE FUNCTION forget_identities() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE settings_history AS change SET actor_identity = NULL FROM erased
    WHERE change.partition = erased.partition AND change.actor_ref = erased.ref;
    UPDATE settings_history AS change SET on_behalf_of_identity = NULL FROM erased
    WHERE change.partition = erased.partition AND change.on_behalf_of_ref = erased.ref;
    RETURN NULL;
END
$$;
CREATE TRIGGER wait_for_history BEFORE DELETE ON actors
    FOR EACH STATEMENT EXECUTE FUNCTION wait_for_history();
CREATE TRIGGER forget_identities AFTER DELETE ON actors
    REFERENCING OLD TABLE AS erased
    FOR EACH STATEMENT EXECUTE FUNCTION forget_identities();
