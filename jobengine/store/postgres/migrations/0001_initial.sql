-- The ledger, the projections of it that the engine works from, and what hangs on a job.
--
-- Conventions: instants are bigint microseconds UTC (`…_at`); text that takes part in an order is
-- COLLATE "C", so that the server sorts as the engine does; a tenant's table starts with tenant_id.
-- Why the tables are cut this way: docs/decisions/0004-ledger-blocks-and-projections.md.

-- Where a tenant's ledger stands. A commit advances it by compare-and-set: the fence against a
-- second writer, the proof of gap-freeness, and the answer to an ambiguous commit.
CREATE TABLE ledger_heads (
    tenant_id text COLLATE "C" NOT NULL,
    next_seq bigint NOT NULL,
    link bytea NOT NULL,
    batch_id text NOT NULL,
    CONSTRAINT ledger_heads_pkey PRIMARY KEY (tenant_id),
    CONSTRAINT ledger_heads_next_seq_follows_a_block CHECK (next_seq > 1),
    CONSTRAINT ledger_heads_link_is_sha256 CHECK (octet_length(link) = 32)
) WITH (
    fillfactor = 10,
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);

-- One row for each tenant and commit; body is zstd of the exact bytes that were hashed. Keyed by
-- the last sequence number, so that the block which holds a given one is a single index probe.
CREATE TABLE ledger_blocks (
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    at bigint NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    body_bytes integer NOT NULL,
    link bytea NOT NULL,
    previous bytea NOT NULL,
    body bytea NOT NULL,
    CONSTRAINT ledger_blocks_pkey PRIMARY KEY (tenant_id, last_seq, at),
    CONSTRAINT ledger_blocks_holds_a_range CHECK (first_seq >= 1 AND last_seq >= first_seq),
    CONSTRAINT ledger_blocks_links_are_sha256
        CHECK (octet_length(link) = 32 AND octet_length(previous) = 32)
) PARTITION BY RANGE (at);
ALTER TABLE ledger_blocks ALTER COLUMN body SET STORAGE EXTERNAL;

-- Every job with its definition and its present state. No index on anything that changes, and each
-- page half empty, so that the update that ends a job stays on its page and touches no index.
-- Documents are json, which keeps their exact bytes.
CREATE TABLE jobs (
    job_id uuid NOT NULL,
    created_at bigint NOT NULL,
    due_at bigint NOT NULL,
    scheduled_at bigint,
    started_at bigint,
    finished_at bigint,
    cancel_requested_at bigint,
    attempt integer NOT NULL,
    failures integer NOT NULL,
    crashes integer NOT NULL,
    payload_bytes integer NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    reason text,
    cancel_reason text,
    queue text COLLATE "C" NOT NULL,
    job_type text COLLATE "C" NOT NULL,
    project_id text,
    run_id text,
    source_id text,
    seqs bigint[] NOT NULL,
    definition json NOT NULL,
    payload json NOT NULL,
    result json,
    error json,
    progress json,
    CONSTRAINT jobs_pkey PRIMARY KEY (tenant_id, job_id),
    CONSTRAINT jobs_state_is_known CHECK (
        state IN ('pending', 'scheduled', 'running', 'completed', 'failed', 'cancelled')
    ),
    CONSTRAINT jobs_counts_are_not_negative
        CHECK (attempt >= 0 AND failures >= 0 AND crashes >= 0),
    CONSTRAINT jobs_running_has_an_attempt
        CHECK (state <> 'running' OR (attempt > 0 AND started_at IS NOT NULL))
) WITH (
    fillfactor = 45,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_analyze_scale_factor = 0.05
);
ALTER TABLE jobs ALTER COLUMN payload SET STORAGE EXTERNAL;
ALTER TABLE jobs ALTER COLUMN result SET STORAGE EXTERNAL;

-- A row for each job that is pending or scheduled: the backlog, in the orders it is read in.
CREATE TABLE waiting (
    job_id uuid NOT NULL,
    rank bigint,
    due_at bigint NOT NULL,
    expires_at bigint,
    shard smallint NOT NULL,
    delayed boolean NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    job_type text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    CONSTRAINT waiting_pkey PRIMARY KEY (tenant_id, job_id),
    CONSTRAINT waiting_state_is_waiting CHECK (state IN ('pending', 'scheduled')),
    CONSTRAINT waiting_scheduled_has_a_rank CHECK (state <> 'scheduled' OR rank IS NOT NULL),
    CONSTRAINT waiting_shard_is_not_negative CHECK (shard >= 0)
) WITH (
    fillfactor = 90,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.1
);
CREATE INDEX waiting_lane ON waiting (tenant_id, queue, job_type, rank, job_id)
    WHERE state = 'scheduled';
CREATE INDEX waiting_delayed ON waiting (shard, due_at, job_id)
    WHERE delayed AND state = 'scheduled';
CREATE INDEX waiting_expiring ON waiting (shard, expires_at, job_id)
    WHERE expires_at IS NOT NULL;

-- A row for each job that is running: occupancy is counted from here. The key is the rule that a
-- job has one owner.
CREATE TABLE leases (
    job_id uuid NOT NULL,
    granted_at bigint NOT NULL,
    lease_us bigint NOT NULL,
    attempt integer NOT NULL,
    shard smallint NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    worker_id text NOT NULL,
    task_runner_id text NOT NULL,
    CONSTRAINT leases_pkey PRIMARY KEY (tenant_id, job_id),
    CONSTRAINT leases_cover_an_attempt CHECK (attempt > 0),
    CONSTRAINT leases_last_a_while CHECK (lease_us > 0),
    CONSTRAINT leases_shard_is_not_negative CHECK (shard >= 0)
) WITH (
    fillfactor = 90,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);

CREATE TABLE dead_letters (
    at bigint NOT NULL,
    job_id uuid NOT NULL,
    attempts integer NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    dead_letter_id text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    job_type text COLLATE "C" NOT NULL,
    class text,
    signature text,
    worker_id text,
    replayed_as text,
    error json,
    CONSTRAINT dead_letters_pkey PRIMARY KEY (tenant_id, dead_letter_id),
    CONSTRAINT dead_letters_state_is_known
        CHECK (state IN ('open', 'replayed', 'retried', 'discarded')),
    CONSTRAINT dead_letters_attempts_are_not_negative CHECK (attempts >= 0)
);
CREATE INDEX dead_letters_newest ON dead_letters (tenant_id, at, dead_letter_id);
CREATE INDEX dead_letters_open ON dead_letters (tenant_id, at, dead_letter_id)
    WHERE state = 'open';

-- What attempts have named; the bytes are elsewhere. Naming an artifact again replaces it.
CREATE TABLE artifacts (
    at bigint NOT NULL,
    size_bytes bigint NOT NULL,
    job_id uuid NOT NULL,
    attempt integer NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    mime text NOT NULL,
    uri text,
    digest text,
    CONSTRAINT artifacts_pkey PRIMARY KEY (tenant_id, job_id, attempt, name),
    CONSTRAINT artifacts_counts_are_not_negative CHECK (attempt >= 0 AND size_bytes >= 0)
);

CREATE SEQUENCE job_logs_position;
CREATE TABLE job_logs (
    position bigint NOT NULL DEFAULT nextval('job_logs_position'),
    at bigint NOT NULL,
    job_id uuid NOT NULL,
    attempt integer NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    lines json NOT NULL,
    CONSTRAINT job_logs_pkey PRIMARY KEY (tenant_id, job_id, position, at),
    CONSTRAINT job_logs_attempt_is_not_negative CHECK (attempt >= 0)
) PARTITION BY RANGE (at);

-- Keys that at most one job holds: until it is final, or (until_at) for a window of time.
CREATE TABLE unique_keys (
    job_id uuid NOT NULL,
    until_at bigint,
    tenant_id text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    CONSTRAINT unique_keys_pkey PRIMARY KEY (tenant_id, key)
);

-- First answers to requests, kept 24 hours: whole days are dropped, none is deleted.
CREATE TABLE idempotency_answers (
    at bigint NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    path text COLLATE "C" NOT NULL,
    body_digest text NOT NULL,
    answer json NOT NULL,
    CONSTRAINT idempotency_answers_pkey PRIMARY KEY (tenant_id, key, path, at)
) PARTITION BY RANGE (at);

-- Ends the statement that calls it, with the given SQLSTATE, unless as many rows were touched as
-- its batch holds: JE001 where a ledger's head has moved, JE002 where a row is stale.
CREATE FUNCTION commit_guard(touched bigint, due bigint, code text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF touched IS DISTINCT FROM due THEN
        RAISE EXCEPTION USING
            ERRCODE = code,
            MESSAGE = format('a commit found %s rows where %s are due', touched, due);
    END IF;
    RETURN true;
END
$$;

-- Makes the partitions of yesterday up to days_ahead days from now; the number of those made.
-- A partition is added by ATTACH, under a lock that lets commits go on and holds up only whoever
-- does the same at the same time.
CREATE FUNCTION add_day_partitions(now_at bigint, days_ahead integer) RETURNS integer
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

-- Drops the days of idempotency answers that end at or before an instant; the number of those
-- dropped. Gives up (lock_not_available) rather than make commits wait.
CREATE FUNCTION drop_idempotency_partitions(before_at bigint) RETURNS integer
LANGUAGE plpgsql SET lock_timeout = '100ms' AS $$
DECLARE
    part text;
    dropped integer := 0;
BEGIN
    FOR part IN
        SELECT c.relname
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'idempotency_answers'::regclass
          AND (to_date(right(c.relname, 8), 'YYYYMMDD') - date '1970-01-01' + 1)::bigint
              * 86400000000 <= before_at
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE IF EXISTS %I', part);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$$;
