-- Tenants apart: the tenant of a transaction, and whether the roles and the tables hold to it.

-- name: tenant_set
-- purpose: fix whose rows this transaction sees, as jobengine_api; gone when it ends
-- rows: 1, the tenant
-- index: none
-- locks: none
-- parameters: tenant_id text
SELECT set_config('jobengine.tenant', %(tenant_id)s::text, true);

-- name: role_facts
-- purpose: who is logged in, what it may do about roles, and what is there already
-- rows: 1
-- index: none: the catalogue
-- locks: none
-- parameters: roles text[]
SELECT
    session_user::text AS login,
    me.rolsuper,
    me.rolbypassrls,
    current_schema()::text AS schema_name,
    ARRAY(
        SELECT rolname::text FROM pg_roles WHERE rolname::text = ANY (%(roles)s::text[])
    ) AS existing,
    ARRAY(
        SELECT rolname::text
        FROM pg_roles
        WHERE rolname::text = ANY (%(roles)s) AND pg_has_role(
            session_user, oid,
            CASE WHEN current_setting('server_version_num')::int < 160000
                THEN 'MEMBER' ELSE 'SET' END
        )
    ) AS attainable,
    ARRAY(
        SELECT rolname::text FROM pg_roles WHERE rolname::text = ANY (%(roles)s) AND rolcanlogin
    ) AS logins,
    ARRAY(
        SELECT rolname::text
        FROM pg_roles
        WHERE rolname::text = ANY (%(roles)s)
          AND has_schema_privilege(oid, current_schema(), 'USAGE')
          AND (
              rolname <> 'jobengine_owner'
              OR has_schema_privilege(oid, current_schema(), 'CREATE')
          )
    ) AS admitted
FROM pg_roles me
WHERE me.rolname = session_user;

-- name: objects_of_others
-- purpose: what the engine works with that jobengine_owner does not own, partitions included
-- rows: kind, name as SQL names it, owner; tables first
-- index: none: the catalogue
-- locks: none
-- parameters: none
WITH made AS (
    SELECT oid, relkind, relowner
    FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace AND relname IN (
        'schema_migration', 'engine_facts', 'job_logs_position', 'ledgers', 'ledger_heads',
        'ledger_blocks', 'jobs', 'waiting', 'leases', 'dead_letters', 'artifacts', 'job_logs', 'unique_keys',
        'idempotency_answers', 'credential_positions', 'api_keys', 'token_revocations',
        'artifact_contents', 'artifact_chunks', 'artifact_usage', 'redrives', 'controls',
        'gate_states', 'runs', 'run_parts', 'registry', 'feed_cursors', 'webhooks'
    )
)
SELECT kind, name, owner
FROM (
    SELECT
        CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
        oid::regclass::text AS name,
        pg_get_userbyid(relowner)::text AS owner
    FROM made
    UNION ALL
    SELECT 'TABLE', part.oid::regclass::text, pg_get_userbyid(part.relowner)::text
    FROM made
    JOIN pg_inherits ON inhparent = made.oid
    JOIN pg_class part ON part.oid = inhrelid AND part.relkind = 'r'
    UNION ALL
    SELECT 'FUNCTION', oid::regprocedure::text, pg_get_userbyid(proowner)::text
    FROM pg_proc
    WHERE pronamespace = current_schema()::regnamespace
      AND proname IN (
          'commit_guard', 'add_day_partitions', 'drop_days', 'drop_idempotency_partitions',
          'drop_log_partitions'
      )
) everything
WHERE owner <> 'jobengine_owner' AND to_regclass('schema_migration') IS NOT NULL
ORDER BY kind DESC, name;

-- name: unsafe_roles
-- purpose: serving roles that could get around the policies
-- rows: one a role that could, with the reason
-- index: none: the catalogue
-- locks: none
-- parameters: roles text[]
SELECT
    rolname::text,
    CASE
        WHEN rolsuper THEN 'is a superuser'
        WHEN rolbypassrls THEN 'has BYPASSRLS'
        WHEN pg_has_role(r.oid, 'jobengine_owner', 'MEMBER') THEN 'is a member of jobengine_owner'
        ELSE 'owns ' || (
            SELECT min(relname) FROM pg_class
            WHERE relowner = r.oid AND relnamespace = current_schema()::regnamespace
        )
    END AS reason
FROM pg_roles r
WHERE rolname::text = ANY (%(roles)s::text[]) AND (
    rolsuper OR rolbypassrls OR pg_has_role(r.oid, 'jobengine_owner', 'MEMBER')
    OR EXISTS (
        SELECT FROM pg_class
        WHERE relowner = r.oid AND relnamespace = current_schema()::regnamespace
    )
)
ORDER BY rolname;

-- name: open_tables
-- purpose: the owner's tables with tenants' rows that policies do not protect as they should
-- rows: one a table, with the reason
-- index: none: the catalogue
-- locks: none
-- parameters: none
SELECT name, reason
FROM (
    SELECT
        c.relname::text AS name,
        CASE
            WHEN NOT c.relrowsecurity THEN 'has no row-level security'
            WHEN NOT c.relforcerowsecurity THEN 'does not force row-level security on its owner'
            WHEN c.relispartition AND p.policies > 0 THEN 'is a partition with a policy of its own'
            WHEN c.relispartition THEN NULL
            WHEN p.of_tenant <> 1 THEN 'lacks its policy tenant_of_transaction'
            WHEN p.of_ledger <> 1 THEN 'lacks its policy every_tenant'
            WHEN p.policies <> 2 THEN 'has a policy more than it should'
        END AS reason
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
    CROSS JOIN LATERAL (
        SELECT
            count(*) AS policies,
            count(*) FILTER (
                WHERE pg_get_expr(polqual, polrelid) = '(tenant_id = '
                    'NULLIF(current_setting(''jobengine.tenant''::text, true), ''''::text))'
                  AND polwithcheck IS NULL
                  AND polroles::regrole[]::text[] = '{jobengine_api}'
            ) AS of_tenant,
            count(*) FILTER (WHERE polroles::regrole[]::text[] = '{jobengine_ledger}') AS of_ledger
        FROM pg_policy
        WHERE polrelid = c.oid AND polpermissive
    ) p
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
      AND pg_get_userbyid(c.relowner) = 'jobengine_owner'
) judged
WHERE reason IS NOT NULL
ORDER BY name;

-- name: excess_privileges
-- purpose: what serving roles may do to tenants' tables, sequences and facts, and should not
-- rows: one a role and table: role, table, privileges
-- index: none: the catalogue
-- locks: none
-- parameters: none
SELECT role_name, table_name, string_agg(privilege, ', ' ORDER BY privilege)
FROM (
    SELECT r.rolname::text AS role_name, c.relname::text AS table_name, privilege
    FROM pg_class c
    CROSS JOIN pg_roles r
    CROSS JOIN unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) AS privilege
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
      AND r.rolname IN ('jobengine_api', 'jobengine_ledger')
      AND has_table_privilege(r.oid, c.oid, privilege)
      AND (
          r.rolname = 'jobengine_api'
          AND c.relname NOT IN ('artifact_contents', 'artifact_chunks', 'artifact_usage')
          OR privilege IN ('TRUNCATE', 'TRIGGER')
          OR c.relispartition
          OR c.relname = 'schema_migration'
          OR c.relname = 'ledger_heads' AND privilege = 'DELETE'
          OR c.relname IN ('ledgers', 'ledger_blocks') AND privilege IN ('UPDATE', 'DELETE')
      )
      AND (
          c.relname IN ('schema_migration', 'engine_facts')
          OR EXISTS (
              SELECT FROM pg_attribute
              WHERE attrelid = c.oid AND attname = 'tenant_id' AND NOT attisdropped
          )
      )
) held
GROUP BY role_name, table_name
ORDER BY role_name, table_name;
