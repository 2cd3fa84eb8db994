-- Drops the days of log lines that end at or before an instant; the number of those dropped. Gives
-- up (lock_not_available) rather than make commits wait. As with the days of idempotency answers, a
-- day is read only out of names that hold one, and the function runs as the owner, who alone may
-- drop, looking nowhere but in this schema.
CREATE FUNCTION drop_log_partitions(before_at bigint) RETURNS integer
LANGUAGE plpgsql SET lock_timeout = '100ms' AS $$
DECLARE
    part text;
    dropped integer := 0;
BEGIN
    FOR part IN
        SELECT c.relname
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'job_logs'::regclass
          AND CASE
              WHEN c.relname ~ '^job_logs_[0-9]{8}$' THEN
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
DO $$
BEGIN
    ALTER FUNCTION drop_log_partitions(bigint) SECURITY DEFINER;
    EXECUTE format(
        'ALTER FUNCTION drop_log_partitions(bigint) SET search_path TO %I, pg_temp',
        current_schema()
    );
END
$$;
REVOKE ALL ON FUNCTION drop_log_partitions(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION drop_log_partitions(bigint) TO jobengine_ledger;
