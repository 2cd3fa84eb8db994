-- Drops the days of a table that end at or before an instant; the number of those dropped. Only one
-- session does so at a time: another that looks up a day while it goes finds half of what the
-- catalogue said of it, and fails. The lock lets commits go on.
-- The server may look at a day in a name before it looks at whose partition the name is; CASE keeps
-- it from reading a day out of names that hold none.
CREATE FUNCTION drop_days(parent text, before_at bigint) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    part text;
    dropped integer := 0;
BEGIN
    EXECUTE format('LOCK TABLE %I IN SHARE UPDATE EXCLUSIVE MODE', parent);
    FOR part IN
        SELECT c.relname
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = parent::regclass
          AND CASE
              WHEN c.relname ~ ('^' || parent || '_[0-9]{8}$') THEN
                  (to_date(right(c.relname, 8), 'YYYYMMDD') - date '1970-01-01' + 1)::bigint
                      * 86400000000 <= before_at
              ELSE false
          END
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE IF EXISTS %I', part);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$$;

-- These give up (lock_not_available) rather than make commits wait. They run as the owner, who
-- alone may drop, and look nowhere but in this schema.
CREATE OR REPLACE FUNCTION drop_idempotency_partitions(before_at bigint) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '100ms' AS $$
BEGIN
    RETURN drop_days('idempotency_answers', before_at);
END
$$;
CREATE OR REPLACE FUNCTION drop_log_partitions(before_at bigint) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '100ms' AS $$
BEGIN
    RETURN drop_days('job_logs', before_at);
END
$$;
DO $$
DECLARE
    signature text;
BEGIN
    FOREACH signature IN ARRAY ARRAY[
        'drop_idempotency_partitions(bigint)', 'drop_log_partitions(bigint)'
    ] LOOP
        EXECUTE format(
            'ALTER FUNCTION %s SET search_path TO %I, pg_temp', signature, current_schema()
        );
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION drop_days(text, bigint) FROM PUBLIC;
