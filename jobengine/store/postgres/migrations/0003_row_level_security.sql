-- Tenants are kept apart by the database: forced row-level security on every table that holds
-- tenants' rows, and roles that own nothing. Run as jobengine_owner, like every migration.
-- Who may do what, and why: docs/decisions/0011-row-level-security.md.

-- jobengine_api sees the rows of the tenant set in its transaction; with none set, no row.
-- jobengine_ledger writes and reads for every tenant. Nobody else sees a row, not even the owner:
-- a migration that has to touch rows gives its role a policy for as long as it runs.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'ledger_heads', 'ledger_blocks', 'jobs', 'waiting', 'leases', 'dead_letters', 'artifacts',
        'job_logs', 'unique_keys', 'idempotency_answers'
    ] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant_of_transaction ON %I TO jobengine_api USING '
            '(tenant_id = nullif(current_setting(''jobengine.tenant'', true), ''''))',
            name
        );
        EXECUTE format('CREATE POLICY every_tenant ON %I TO jobengine_ledger USING (true)', name);
    END LOOP;
    FOR name IN
        SELECT inhrelid::regclass::text
        FROM pg_inherits
        WHERE inhparent IN (
            'ledger_blocks'::regclass, 'job_logs'::regclass, 'idempotency_answers'::regclass
        )
        ORDER BY 1
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', name);
    END LOOP;
END
$$;

GRANT SELECT ON
    ledger_heads, ledger_blocks, jobs, waiting, leases, dead_letters, artifacts, job_logs,
    unique_keys, idempotency_answers, schema_migration
TO jobengine_api, jobengine_ledger;

-- The ledger is only ever added to; its heads advance.
GRANT INSERT ON ledger_blocks, job_logs, idempotency_answers TO jobengine_ledger;
GRANT INSERT, UPDATE ON ledger_heads, jobs, dead_letters, artifacts, engine_facts
TO jobengine_ledger;
GRANT INSERT, DELETE ON leases TO jobengine_ledger;
GRANT INSERT, UPDATE, DELETE ON waiting, unique_keys TO jobengine_ledger;
GRANT SELECT ON engine_facts TO jobengine_ledger;
GRANT USAGE ON SEQUENCE job_logs_position TO jobengine_ledger;

-- As before, and a partition is closed to whoever names it instead of its parent: forced security
-- without a policy, and no privilege.
CREATE OR REPLACE FUNCTION add_day_partitions(now_at bigint, days_ahead integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    day_us CONSTANT bigint := 86400000000;
    today CONSTANT integer := now_at / day_us;
    parent text;
    part text;
    made integer := 0;
BEGIN
    FOREACH parent IN ARRAY ARRAY['ledger_blocks', 'job_logs', 'idempotency_answers'] LOOP
        FOR day IN today - 1 .. today + days_ahead LOOP
            part := parent || '_' || to_char(date '1970-01-01' + day, 'YYYYMMDD');
            CONTINUE WHEN to_regclass(part) IS NOT NULL;
            EXECUTE format('LOCK TABLE %I IN SHARE UPDATE EXCLUSIVE MODE', parent);
            CONTINUE WHEN to_regclass(part) IS NOT NULL;
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', part, parent);
            EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', part);
            EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', part);
            EXECUTE format(
                'ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
                parent, part, day * day_us, (day + 1) * day_us
            );
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;

-- Partitions come and go while the engine serves, with roles that own nothing: these two run as
-- the owner, and look nowhere but in this schema.
DO $$
DECLARE
    signature text;
BEGIN
    FOREACH signature IN ARRAY ARRAY[
        'add_day_partitions(bigint, integer)', 'drop_idempotency_partitions(bigint)'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER', signature);
        EXECUTE format(
            'ALTER FUNCTION %s SET search_path TO %I, pg_temp', signature, current_schema()
        );
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION
    add_day_partitions(bigint, integer), drop_idempotency_partitions(bigint),
    commit_guard(bigint, bigint, text)
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    add_day_partitions(bigint, integer), drop_idempotency_partitions(bigint),
    commit_guard(bigint, bigint, text)
TO jobengine_ledger;
