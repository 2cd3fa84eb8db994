-- The server may look at a day in a name before it looks at whose partition the name is; CASE keeps
-- it from reading a day out of names that hold none.
CREATE OR REPLACE FUNCTION drop_idempotency_partitions(before_at bigint) RETURNS integer
LANGUAGE plpgsql SET lock_timeout = '100ms' AS $$
DECLARE
    part text;
    dropped integer := 0;
BEGIN
    FOR part IN
        SELECT c.relname
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'idempotency_answers'::regclass
          AND CASE
              WHEN c.relname ~ '^idempotency_answers_[0-9]{8}$' THEN
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
    ALTER FUNCTION drop_idempotency_partitions(bigint) SECURITY DEFINER;
    EXECUTE format(
        'ALTER FUNCTION drop_idempotency_partitions(bigint) SET search_path TO %I, pg_temp',
        current_schema()
    );
END
$$;
