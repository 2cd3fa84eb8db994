-- One engine serves a database at a time. It holds an advisory lock for as long as it lives, on a
-- connection that does nothing else; what is fixed for the database is checked under that lock.
-- Every session that commits holds another one, shared, by which they are found.

-- name: ownership_try
-- purpose: become the engine of this database
-- rows: 1: whether the lock was free, or is held by this very session
-- index: none
-- locks: the session's advisory lock, until the session ends
-- parameters: lock_key bigint
SELECT pg_try_advisory_lock(%(lock_key)s::bigint);

-- name: ownership_holder
-- purpose: tell who holds the lock
-- rows: 0 or 1: application name, client address or empty for a local socket, backend pid
-- index: none
-- locks: none
-- parameters: lock_key bigint
SELECT a.application_name, coalesce(host(a.client_addr), ''), a.pid
FROM pg_locks l
JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.classid::bigint << 32 | l.objid::bigint) = %(lock_key)s::bigint
LIMIT 1;

-- name: committers_end
-- purpose: end sessions that may have a commit under way, those of pids or, without, every one of
--   another engine; one that waits for its standby is let finish: ended there, its commit would
--   hold on this server alone
-- rows: the backend pid of each that is not gone after wait_ms
-- index: none
-- locks: none
-- parameters: lock_key bigint, pids bigint[], wait_ms bigint
WITH committer AS MATERIALIZED (
    SELECT
        l.pid,
        (a.usename = current_user OR current_setting('is_superuser') = 'on')
            AND a.wait_event IS DISTINCT FROM 'SyncRep' AS may_end
    FROM pg_locks l
    JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (l.classid::bigint << 32 | l.objid::bigint) = %(lock_key)s::bigint
      AND l.pid <> pg_backend_pid()
      AND (%(pids)s::bigint[] IS NULL OR l.pid = ANY (%(pids)s::bigint[]))
)
SELECT pid
FROM committer
WHERE NOT CASE WHEN may_end THEN pg_terminate_backend(pid, %(wait_ms)s::bigint) ELSE false END;

-- name: fact_settle
-- purpose: fix a fact of the database, unless it is fixed already
-- rows: 1: the value that holds
-- index: engine_facts_pkey
-- locks: the fact's row
-- parameters: name text, value text
INSERT INTO engine_facts AS f (name, value)
VALUES (%(name)s, %(value)s)
ON CONFLICT (name) DO UPDATE SET value = f.value
RETURNING f.value;
