-- One engine serves a database at a time. It holds an advisory lock for as long as it lives, on a
-- connection that does nothing else; what is fixed for the database is checked under that lock.

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
