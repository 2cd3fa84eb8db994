-- What `jobengine db doctor` looks up. Nothing here changes anything, and nothing reads a row of a
-- tenant; a login without pg_monitor sees of other logins only that they are there.

-- name: oldest_horizon
-- purpose: what keeps dead rows from being removed for longest: a transaction, prepared or open, or
--   a replication slot
-- rows: 1: its age in seconds or null, its age in transactions, who it is; then the age of the
--   database's oldest unfrozen row, and how many of the sessions that keep rows do not show this
--   login since when
-- index: none: the catalogue
-- locks: none
-- parameters: none
WITH holder AS (
    SELECT
        extract(epoch FROM clock_timestamp() - xact_start)::float8 AS age_s,
        greatest(age(backend_xmin), age(backend_xid)) AS age_xids,
        format('%s, server process %s', coalesce(nullif(application_name, ''), 'a session'), pid)
            AS who
    FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
      AND coalesce(backend_type, 'client backend') = 'client backend'
    UNION ALL
    SELECT
        extract(epoch FROM clock_timestamp() - prepared)::float8, age(transaction),
        format('prepared transaction %s', gid)
    FROM pg_prepared_xacts
    WHERE database = current_database()
    UNION ALL
    SELECT
        NULL, greatest(age(xmin), age(catalog_xmin)), format('replication slot %s', slot_name)
    FROM pg_replication_slots
    WHERE xmin IS NOT NULL OR catalog_xmin IS NOT NULL
)
SELECT
    h.age_s, h.age_xids, h.who,
    (SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database()),
    (
        SELECT count(*) FROM pg_stat_activity
        WHERE backend_type IS NULL AND pid <> pg_backend_pid()
          AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
    )
FROM (SELECT) AS always
LEFT JOIN (
    SELECT * FROM holder ORDER BY age_s DESC NULLS LAST, age_xids DESC NULLS LAST LIMIT 1
) h ON true;

-- name: hot_tables
-- purpose: the size of the tables that change with every commit
-- rows: one a table that exists, by name: name, octets, live rows, dead rows
-- index: none: the catalogue
-- locks: none
-- parameters: none
SELECT relname::text, pg_total_relation_size(relid), n_live_tup, n_dead_tup
FROM pg_stat_user_tables
WHERE schemaname = current_schema() AND relname IN ('jobs', 'waiting', 'leases', 'ledger_heads')
ORDER BY relname;

-- name: days_ahead
-- purpose: until when tables cut by day have room
-- rows: one a table that exists, by name: name, days that follow today without a gap, or -1 where
--   today has no room; null where the table has no partition at all
-- index: none: the catalogue
-- locks: none
-- parameters: now_at bigint
SELECT
    parent.relname::text,
    (
        SELECT count(*) - 1
        FROM (
            SELECT day - row_number() OVER (ORDER BY day) AS island
            FROM (
                -- A day is read only out of names that hold one, whatever the planner looks at first.
                SELECT CASE
                    WHEN part.relname ~ '_[0-9]{8}$'
                    THEN to_date(right(part.relname, 8), 'YYYYMMDD') - date '1970-01-01'
                END AS day
                FROM pg_inherits
                JOIN pg_class part ON part.oid = inhrelid
                WHERE inhparent = parent.oid
            ) days
            WHERE day >= %(now_at)s::bigint / 86400000000
        ) following
        WHERE island = %(now_at)s::bigint / 86400000000 - 1
    ) AS days,
    EXISTS (SELECT FROM pg_inherits WHERE inhparent = parent.oid) AS is_cut
FROM pg_class parent
WHERE relnamespace = current_schema()::regnamespace AND relkind = 'p'
  AND relname IN ('ledger_blocks', 'job_logs', 'idempotency_answers')
ORDER BY relname;

-- name: server_facts
-- purpose: the server's clock, the session's process, the size of the database, where its files are
-- rows: 1: microseconds UTC, process id, octets, directory or null where this login may not know,
--   and whether that is on the client's machine: it came by a socket or by loopback
-- index: none
-- locks: none
-- parameters: none
SELECT
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
    pg_backend_pid(),
    pg_database_size(current_database()),
    (SELECT setting FROM pg_settings WHERE name = 'data_directory'),
    coalesce(inet_server_addr() <<= '127.0.0.0/8' OR inet_server_addr() = '::1', true);
