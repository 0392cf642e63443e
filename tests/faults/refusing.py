"""A database that refuses some changes: those whose origin is ``refused``."""

from __future__ import annotations

REFUSE = """
CREATE FUNCTION refuse_marked() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF position('"origin":"refused"'::bytea IN NEW.state) > 0 THEN
        RAISE EXCEPTION 'not this one' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse_marked BEFORE INSERT ON events
    FOR EACH ROW EXECUTE FUNCTION refuse_marked();
"""
