-- The database schema after all migrations, as PostgreSQL 18 tells it. To read; nothing runs it.
-- Written by `python -m tests.store.postgres.schema`, kept equal by a test.

CREATE FUNCTION public.add_day_partitions(now_at bigint, days_ahead integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

CREATE FUNCTION public.commit_guard(touched bigint, due bigint, code text) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF touched IS DISTINCT FROM due THEN
        RAISE EXCEPTION USING
            ERRCODE = code,
            MESSAGE = format('a commit found %s rows where %s are due', touched, due);
    END IF;
    RETURN true;
END
$$;

CREATE FUNCTION public.drop_days(parent text, before_at bigint) RETURNS integer
    LANGUAGE plpgsql
    AS $_$
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
$_$;

CREATE FUNCTION public.drop_idempotency_partitions(before_at bigint) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET lock_timeout TO '100ms'
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    RETURN drop_days('idempotency_answers', before_at);
END
$$;

CREATE FUNCTION public.drop_log_partitions(before_at bigint) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET lock_timeout TO '100ms'
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    RETURN drop_days('job_logs', before_at);
END
$$;

CREATE SEQUENCE public.credential_positions
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE public.api_keys (
    "position" bigint DEFAULT nextval('public.credential_positions'::regclass) NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint,
    revoked_at bigint,
    last_used_day_at bigint,
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    prefix text NOT NULL COLLATE pg_catalog."C",
    digest text NOT NULL COLLATE pg_catalog."C",
    label text NOT NULL,
    created_by text NOT NULL,
    scopes text[] NOT NULL,
    CONSTRAINT api_keys_digest_is_a_sha256 CHECK ((digest ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT api_keys_expire_after_they_were_made CHECK ((expires_at > created_at))
);

ALTER TABLE ONLY public.api_keys FORCE ROW LEVEL SECURITY;

CREATE TABLE public.artifact_chunks (
    content_id uuid NOT NULL,
    number integer NOT NULL,
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    chunk bytea NOT NULL,
    CONSTRAINT artifact_chunks_numbers_are_not_negative CHECK ((number >= 0))
);
ALTER TABLE ONLY public.artifact_chunks ALTER COLUMN chunk SET STORAGE EXTERNAL;

ALTER TABLE ONLY public.artifact_chunks FORCE ROW LEVEL SECURITY;

CREATE TABLE public.artifact_contents (
    stored_at bigint NOT NULL,
    touched_at bigint NOT NULL,
    size_bytes bigint DEFAULT 0 NOT NULL,
    content_id uuid NOT NULL,
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    digest text COLLATE pg_catalog."C",
    mime text NOT NULL,
    CONSTRAINT artifact_contents_digest_is_a_sha256 CHECK ((digest ~ '^sha256:[0-9a-f]{64}$'::text)),
    CONSTRAINT artifact_contents_sizes_are_not_negative CHECK ((size_bytes >= 0))
);

ALTER TABLE ONLY public.artifact_contents FORCE ROW LEVEL SECURITY;

CREATE TABLE public.artifact_usage (
    size_bytes bigint NOT NULL,
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    CONSTRAINT artifact_usage_is_not_negative CHECK ((size_bytes >= 0))
);

ALTER TABLE ONLY public.artifact_usage FORCE ROW LEVEL SECURITY;

CREATE TABLE public.artifacts (
    at bigint NOT NULL,
    size_bytes bigint NOT NULL,
    job_id uuid NOT NULL,
    attempt integer NOT NULL,
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    mime text NOT NULL,
    uri text,
    digest text,
    CONSTRAINT artifacts_counts_are_not_negative CHECK (((attempt >= 0) AND (size_bytes >= 0)))
);

ALTER TABLE ONLY public.artifacts FORCE ROW LEVEL SECURITY;

CREATE TABLE public.controls (
    changed_at bigint NOT NULL,
    revision integer NOT NULL,
    shard smallint NOT NULL,
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    kind text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    body json NOT NULL,
    CONSTRAINT controls_kind_is_known CHECK ((kind = ANY (ARRAY['source'::text, 'quota'::text, 'throttle'::text, 'blackout'::text, 'pause'::text, 'weight'::text, 'governance'::text]))),
    CONSTRAINT controls_revision_counts CHECK ((revision > 0)),
    CONSTRAINT controls_shard_is_not_negative CHECK ((shard >= 0))
);

ALTER TABLE ONLY public.controls FORCE ROW LEVEL SECURITY;

CREATE TABLE public.dead_letters (
    at bigint NOT NULL,
    job_id uuid NOT NULL,
    attempts integer NOT NULL,
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    dead_letter_id text NOT NULL COLLATE pg_catalog."C",
    state text NOT NULL COLLATE pg_catalog."C",
    queue text NOT NULL COLLATE pg_catalog."C",
    job_type text NOT NULL COLLATE pg_catalog."C",
    class text,
    signature text,
    worker_id text,
    replayed_as text,
    error json,
    CONSTRAINT dead_letters_attempts_are_not_negative CHECK ((attempts >= 0)),
    CONSTRAINT dead_letters_state_is_known CHECK ((state = ANY (ARRAY['open'::text, 'replayed'::text, 'retried'::text, 'discarded'::text])))
);

ALTER TABLE ONLY public.dead_letters FORCE ROW LEVEL SECURITY;

CREATE TABLE public.engine_facts (
    name text NOT NULL,
    value text NOT NULL
);

CREATE TABLE public.feed_cursors (
    seq bigint NOT NULL,
    at bigint NOT NULL,
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    feed text NOT NULL COLLATE pg_catalog."C",
    note json NOT NULL,
    CONSTRAINT feed_cursors_seq_is_not_negative CHECK ((seq >= 0))
)
WITH (fillfactor='30', autovacuum_vacuum_scale_factor='0.0', autovacuum_vacuum_threshold='5000', autovacuum_vacuum_cost_delay='0');

ALTER TABLE ONLY public.feed_cursors FORCE ROW LEVEL SECURITY;

CREATE TABLE public.gate_states (
    shard smallint NOT NULL,
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    body json NOT NULL,
    CONSTRAINT gate_states_shard_is_not_negative CHECK ((shard >= 0))
)
WITH (fillfactor='30', autovacuum_vacuum_scale_factor='0.0', autovacuum_vacuum_threshold='5000', autovacuum_vacuum_cost_delay='0');

ALTER TABLE ONLY public.gate_states FORCE ROW LEVEL SECURITY;

CREATE TABLE public.idempotency_answers (
    at bigint NOT NULL,
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    key text NOT NULL COLLATE pg_catalog."C",
    path text NOT NULL COLLATE pg_catalog."C",
    body_digest text NOT NULL,
    answer json NOT NULL
)
PARTITION BY RANGE (at);

ALTER TABLE ONLY public.idempotency_answers FORCE ROW LEVEL SECURITY;

CREATE SEQUENCE public.job_logs_position
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE public.job_logs (
    "position" bigint DEFAULT nextval('public.job_logs_position'::regclass) NOT NULL,
    at bigint NOT NULL,
    job_id uuid NOT NULL,
    attempt integer NOT NULL,
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    lines json NOT NULL,
    CONSTRAINT job_logs_attempt_is_not_negative CHECK ((attempt >= 0))
)
PARTITION BY RANGE (at);

ALTER TABLE ONLY public.job_logs FORCE ROW LEVEL SECURITY;

CREATE TABLE public.jobs (
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
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    state text NOT NULL COLLATE pg_catalog."C",
    reason text,
    cancel_reason text,
    queue text NOT NULL COLLATE pg_catalog."C",
    job_type text NOT NULL COLLATE pg_catalog."C",
    project_id text,
    run_id text,
    source_id text,
    seqs bigint[] NOT NULL,
    definition json NOT NULL,
    payload json NOT NULL,
    result json,
    error json,
    progress json,
    CONSTRAINT jobs_counts_are_not_negative CHECK (((attempt >= 0) AND (failures >= 0) AND (crashes >= 0))),
    CONSTRAINT jobs_running_has_an_attempt CHECK (((state <> 'running'::text) OR ((attempt > 0) AND (started_at IS NOT NULL)))),
    CONSTRAINT jobs_state_is_known CHECK ((state = ANY (ARRAY['pending'::text, 'scheduled'::text, 'running'::text, 'completed'::text, 'failed'::text, 'cancelled'::text])))
)
WITH (fillfactor='45', autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_insert_scale_factor='0.1', autovacuum_analyze_scale_factor='0.05');
ALTER TABLE ONLY public.jobs ALTER COLUMN payload SET STORAGE EXTERNAL;
ALTER TABLE ONLY public.jobs ALTER COLUMN result SET STORAGE EXTERNAL;

ALTER TABLE ONLY public.jobs FORCE ROW LEVEL SECURITY;

CREATE TABLE public.leases (
    granted_at bigint NOT NULL,
    running integer NOT NULL,
    shard smallint NOT NULL,
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    begins integer[] NOT NULL,
    worker_ids text[] NOT NULL,
    task_runner_ids text[] NOT NULL,
    job_ids uuid[] NOT NULL,
    CONSTRAINT leases_go_with_their_last_job CHECK ((running > 0)),
    CONSTRAINT leases_shard_is_not_negative CHECK ((shard >= 0))
)
WITH (fillfactor='70', toast_tuple_target='256', autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_threshold='5000', autovacuum_vacuum_cost_delay='0');
ALTER TABLE ONLY public.leases ALTER COLUMN job_ids SET STORAGE EXTERNAL;

ALTER TABLE ONLY public.leases FORCE ROW LEVEL SECURITY;

CREATE TABLE public.ledger_blocks (
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    at bigint NOT NULL,
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    body_bytes integer NOT NULL,
    link bytea NOT NULL,
    previous bytea NOT NULL,
    body bytea NOT NULL,
    CONSTRAINT ledger_blocks_holds_a_range CHECK (((first_seq >= 1) AND (last_seq >= first_seq))),
    CONSTRAINT ledger_blocks_links_are_sha256 CHECK (((octet_length(link) = 32) AND (octet_length(previous) = 32)))
)
PARTITION BY RANGE (at);
ALTER TABLE ONLY public.ledger_blocks ALTER COLUMN body SET STORAGE EXTERNAL;

ALTER TABLE ONLY public.ledger_blocks FORCE ROW LEVEL SECURITY;

CREATE TABLE public.ledger_heads (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    next_seq bigint NOT NULL,
    link bytea NOT NULL,
    batch_id text NOT NULL,
    CONSTRAINT ledger_heads_link_is_sha256 CHECK ((octet_length(link) = 32)),
    CONSTRAINT ledger_heads_next_seq_follows_a_block CHECK ((next_seq > 1))
)
WITH (fillfactor='10', autovacuum_vacuum_scale_factor='0.0', autovacuum_vacuum_threshold='5000', autovacuum_vacuum_cost_delay='0');

ALTER TABLE ONLY public.ledger_heads FORCE ROW LEVEL SECURITY;

CREATE TABLE public.ledgers (
    tenant_id text NOT NULL COLLATE pg_catalog."C"
);

ALTER TABLE ONLY public.ledgers FORCE ROW LEVEL SECURITY;

CREATE TABLE public.redrives (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    redrive_id text NOT NULL COLLATE pg_catalog."C",
    changed_at bigint NOT NULL,
    after_at bigint,
    replayed integer NOT NULL,
    failed integer NOT NULL,
    state text NOT NULL COLLATE pg_catalog."C",
    after_id text COLLATE pg_catalog."C",
    last_error text,
    definition json NOT NULL,
    CONSTRAINT redrives_counts_are_not_negative CHECK (((replayed >= 0) AND (failed >= 0))),
    CONSTRAINT redrives_state_is_known CHECK ((state = ANY (ARRAY['running'::text, 'paused'::text, 'stopped'::text, 'completed'::text])))
);

ALTER TABLE ONLY public.redrives FORCE ROW LEVEL SECURITY;

CREATE TABLE public.registry (
    created_at bigint NOT NULL,
    disabled_at bigint,
    version integer NOT NULL,
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    kind text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    digest text NOT NULL COLLATE pg_catalog."C",
    created_by text NOT NULL,
    body json NOT NULL,
    CONSTRAINT registry_digest_is_a_sha256 CHECK ((digest ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT registry_version_counts CHECK ((version > 0))
);

ALTER TABLE ONLY public.registry FORCE ROW LEVEL SECURITY;

CREATE TABLE public.run_parts (
    run_id uuid NOT NULL,
    part integer NOT NULL,
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    body json NOT NULL,
    CONSTRAINT run_parts_are_counted_from_zero CHECK ((part >= 0))
);

ALTER TABLE ONLY public.run_parts FORCE ROW LEVEL SECURITY;

CREATE TABLE public.runs (
    run_id uuid NOT NULL,
    created_at bigint NOT NULL,
    started_at bigint,
    finished_at bigint,
    began_at bigint GENERATED ALWAYS AS (COALESCE(started_at, finished_at)) STORED,
    cancel_requested_at bigint,
    nodes integer NOT NULL,
    dag_version integer,
    shard smallint NOT NULL,
    fail_fast boolean NOT NULL,
    replay_of uuid,
    parent_run uuid,
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    run_token text NOT NULL COLLATE pg_catalog."C",
    state text NOT NULL COLLATE pg_catalog."C",
    project_id text NOT NULL,
    dag_id text,
    created_by text NOT NULL,
    correlation_id text NOT NULL,
    traceparent text,
    inputs_hash text NOT NULL,
    parent_key text,
    inputs json NOT NULL,
    pack json,
    rolled json,
    CONSTRAINT runs_ended_at_an_instant CHECK (((state <> ALL (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text])) OR (finished_at IS NOT NULL))),
    CONSTRAINT runs_nodes_are_not_negative CHECK ((nodes >= 0)),
    CONSTRAINT runs_running_has_started CHECK (((state <> 'running'::text) OR (started_at IS NOT NULL))),
    CONSTRAINT runs_shard_is_not_negative CHECK ((shard >= 0)),
    CONSTRAINT runs_state_is_known CHECK ((state = ANY (ARRAY['pending'::text, 'running'::text, 'completed'::text, 'failed'::text, 'cancelled'::text])))
);

ALTER TABLE ONLY public.runs FORCE ROW LEVEL SECURITY;

CREATE TABLE public.schema_migration (
    number integer NOT NULL,
    name text NOT NULL,
    sha256 bytea NOT NULL,
    applied_at bigint NOT NULL
);

CREATE TABLE public.token_revocations (
    "position" bigint DEFAULT nextval('public.credential_positions'::regclass) NOT NULL,
    at bigint NOT NULL,
    until_at bigint,
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    token_id text NOT NULL COLLATE pg_catalog."C"
);

ALTER TABLE ONLY public.token_revocations FORCE ROW LEVEL SECURITY;

CREATE TABLE public.unique_keys (
    job_id uuid NOT NULL,
    until_at bigint,
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    key text NOT NULL COLLATE pg_catalog."C"
);

ALTER TABLE ONLY public.unique_keys FORCE ROW LEVEL SECURITY;

CREATE TABLE public.waiting (
    job_id uuid NOT NULL,
    rank bigint,
    due_at bigint NOT NULL,
    expires_at bigint,
    shard smallint NOT NULL,
    delayed boolean NOT NULL,
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    queue text NOT NULL COLLATE pg_catalog."C",
    job_type text NOT NULL COLLATE pg_catalog."C",
    state text NOT NULL COLLATE pg_catalog."C",
    source_id text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    CONSTRAINT waiting_scheduled_has_a_rank CHECK (((state <> 'scheduled'::text) OR (rank IS NOT NULL))),
    CONSTRAINT waiting_shard_is_not_negative CHECK ((shard >= 0)),
    CONSTRAINT waiting_state_is_waiting CHECK ((state = ANY (ARRAY['pending'::text, 'scheduled'::text])))
)
WITH (fillfactor='90', autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_threshold='5000', autovacuum_vacuum_cost_delay='0', autovacuum_analyze_scale_factor='0.1');

ALTER TABLE ONLY public.waiting FORCE ROW LEVEL SECURITY;

CREATE TABLE public.webhooks (
    begins_after_seq bigint NOT NULL,
    created_at bigint NOT NULL,
    changed_at bigint NOT NULL,
    revision integer NOT NULL,
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    webhook_id text NOT NULL COLLATE pg_catalog."C",
    state text NOT NULL COLLATE pg_catalog."C",
    wrapping text NOT NULL COLLATE pg_catalog."C",
    url text NOT NULL,
    types text[] NOT NULL,
    description text NOT NULL,
    created_by text NOT NULL,
    reason text,
    secret bytea NOT NULL,
    CONSTRAINT webhooks_revision_counts CHECK ((revision > 0)),
    CONSTRAINT webhooks_state_is_known CHECK ((state = ANY (ARRAY['active'::text, 'paused'::text]))),
    CONSTRAINT webhooks_wrapping_is_known CHECK ((wrapping = ANY (ARRAY['none'::text, 'dsse'::text])))
);

ALTER TABLE ONLY public.webhooks FORCE ROW LEVEL SECURITY;

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (tenant_id, prefix);

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_prefix_is_one_keys UNIQUE (prefix);

ALTER TABLE ONLY public.artifact_chunks
    ADD CONSTRAINT artifact_chunks_pkey PRIMARY KEY (tenant_id, content_id, number);

ALTER TABLE ONLY public.artifact_contents
    ADD CONSTRAINT artifact_contents_digest_is_one_contents UNIQUE (tenant_id, digest);

ALTER TABLE ONLY public.artifact_contents
    ADD CONSTRAINT artifact_contents_pkey PRIMARY KEY (tenant_id, content_id);

ALTER TABLE ONLY public.artifact_usage
    ADD CONSTRAINT artifact_usage_pkey PRIMARY KEY (tenant_id);

ALTER TABLE ONLY public.artifacts
    ADD CONSTRAINT artifacts_pkey PRIMARY KEY (tenant_id, job_id, attempt, name);

ALTER TABLE ONLY public.controls
    ADD CONSTRAINT controls_pkey PRIMARY KEY (tenant_id, kind, name);

ALTER TABLE ONLY public.dead_letters
    ADD CONSTRAINT dead_letters_pkey PRIMARY KEY (tenant_id, dead_letter_id);

ALTER TABLE ONLY public.engine_facts
    ADD CONSTRAINT engine_facts_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.feed_cursors
    ADD CONSTRAINT feed_cursors_pkey PRIMARY KEY (tenant_id, feed);

ALTER TABLE ONLY public.gate_states
    ADD CONSTRAINT gate_states_pkey PRIMARY KEY (tenant_id, name);

ALTER TABLE ONLY public.idempotency_answers
    ADD CONSTRAINT idempotency_answers_pkey PRIMARY KEY (tenant_id, key, path, at);

ALTER TABLE ONLY public.job_logs
    ADD CONSTRAINT job_logs_pkey PRIMARY KEY (tenant_id, job_id, "position", at);

ALTER TABLE ONLY public.jobs
    ADD CONSTRAINT jobs_pkey PRIMARY KEY (tenant_id, job_id);

ALTER TABLE ONLY public.leases
    ADD CONSTRAINT leases_pkey PRIMARY KEY (tenant_id, granted_at);

ALTER TABLE ONLY public.ledger_blocks
    ADD CONSTRAINT ledger_blocks_pkey PRIMARY KEY (tenant_id, last_seq, at);

ALTER TABLE ONLY public.ledger_heads
    ADD CONSTRAINT ledger_heads_pkey PRIMARY KEY (tenant_id, next_seq);

ALTER TABLE ONLY public.ledgers
    ADD CONSTRAINT ledgers_pkey PRIMARY KEY (tenant_id);

ALTER TABLE ONLY public.redrives
    ADD CONSTRAINT redrives_pkey PRIMARY KEY (tenant_id, redrive_id);

ALTER TABLE ONLY public.registry
    ADD CONSTRAINT registry_pkey PRIMARY KEY (tenant_id, kind, name, version);

ALTER TABLE ONLY public.run_parts
    ADD CONSTRAINT run_parts_pkey PRIMARY KEY (tenant_id, run_id, part);

ALTER TABLE ONLY public.runs
    ADD CONSTRAINT runs_pkey PRIMARY KEY (tenant_id, run_id);

ALTER TABLE ONLY public.schema_migration
    ADD CONSTRAINT schema_migration_pkey PRIMARY KEY (number);

ALTER TABLE ONLY public.token_revocations
    ADD CONSTRAINT token_revocations_pkey PRIMARY KEY (tenant_id, token_id);

ALTER TABLE ONLY public.unique_keys
    ADD CONSTRAINT unique_keys_pkey PRIMARY KEY (tenant_id, key);

ALTER TABLE ONLY public.waiting
    ADD CONSTRAINT waiting_pkey PRIMARY KEY (tenant_id, job_id);

ALTER TABLE ONLY public.webhooks
    ADD CONSTRAINT webhooks_pkey PRIMARY KEY (tenant_id, webhook_id);

CREATE INDEX api_keys_changed ON public.api_keys USING btree ("position");

CREATE INDEX api_keys_newest ON public.api_keys USING btree (tenant_id, created_at, prefix);

CREATE INDEX artifact_contents_untouched ON public.artifact_contents USING btree (touched_at, tenant_id, content_id);

CREATE INDEX artifacts_naming ON public.artifacts USING btree (tenant_id, digest) WHERE (digest IS NOT NULL);

CREATE INDEX controls_shard ON public.controls USING btree (shard);

CREATE INDEX dead_letters_newest ON public.dead_letters USING btree (tenant_id, at, dead_letter_id) INCLUDE (state, class, job_type, queue, signature);

CREATE INDEX dead_letters_open ON public.dead_letters USING btree (tenant_id, at, dead_letter_id) INCLUDE (state, class, job_type, queue, signature) WHERE (state = 'open'::text);

CREATE INDEX jobs_of_run ON public.jobs USING btree (tenant_id, run_id, job_id) WHERE (run_id IS NOT NULL);

CREATE INDEX redrives_unfinished ON public.redrives USING btree (tenant_id, redrive_id) WHERE (state = ANY (ARRAY['running'::text, 'paused'::text]));

CREATE INDEX registry_digest ON public.registry USING btree (tenant_id, kind, digest, created_at, name, version) WHERE (digest IS NOT NULL);

CREATE INDEX runs_ended ON public.runs USING btree (tenant_id, began_at, run_id) WHERE (state = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text]));

CREATE INDEX runs_newest ON public.runs USING btree (tenant_id, created_at, run_id) WHERE (created_at IS NOT NULL);

CREATE UNIQUE INDEX runs_token_is_one_runs ON public.runs USING btree (tenant_id, run_token) WHERE (run_token IS NOT NULL);

CREATE INDEX runs_unfinished ON public.runs USING btree (shard, tenant_id, run_id) WHERE (state = ANY (ARRAY['pending'::text, 'running'::text]));

CREATE INDEX token_revocations_changed ON public.token_revocations USING btree ("position");

CREATE INDEX token_revocations_over ON public.token_revocations USING btree (until_at) WHERE (until_at IS NOT NULL);

CREATE INDEX waiting_delayed ON public.waiting USING btree (shard, due_at, job_id) WHERE (delayed AND (state = 'scheduled'::text));

CREATE INDEX waiting_expiring ON public.waiting USING btree (shard, expires_at, job_id) WHERE (expires_at IS NOT NULL);

CREATE INDEX waiting_lane ON public.waiting USING btree (tenant_id, queue, job_type, source_id, rank, job_id) WHERE (state = 'scheduled'::text);

ALTER TABLE public.api_keys ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.artifact_chunks ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.artifact_contents ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.artifact_usage ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.artifacts ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.controls ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.dead_letters ENABLE ROW LEVEL SECURITY;

CREATE POLICY every_tenant ON public.api_keys TO jobengine_ledger USING (true);

CREATE POLICY every_tenant ON public.artifact_chunks TO jobengine_ledger USING (true);

CREATE POLICY every_tenant ON public.artifact_contents TO jobengine_ledger USING (true);

CREATE POLICY every_tenant ON public.artifact_usage TO jobengine_ledger USING (true);

CREATE POLICY every_tenant ON public.artifacts TO jobengine_ledger USING (true);

CREATE POLICY every_tenant ON public.controls TO jobengine_ledger USING (true);

CREATE POLICY every_tenant ON public.dead_letters TO jobengine_ledger USING (true);

CREATE POLICY every_tenant ON public.feed_cursors TO jobengine_ledger USING (true);

CREATE POLICY every_tenant ON public.gate_states TO jobengine_ledger USING (true);

CREATE POLICY every_tenant ON public.idempotency_answers TO jobengine_ledger USING (true);

CREATE POLICY every_tenant ON public.job_logs TO jobengine_ledger USING (true);

CREATE POLICY every_tenant ON public.jobs TO jobengine_ledger USING (true);

CREATE POLICY every_tenant ON public.leases TO jobengine_ledger USING (true);

CREATE POLICY every_tenant ON public.ledger_blocks TO jobengine_ledger USING (true);

CREATE POLICY every_tenant ON public.ledger_heads TO jobengine_ledger USING (true);

CREATE POLICY every_tenant ON public.ledgers TO jobengine_ledger USING (true);

CREATE POLICY every_tenant ON public.redrives TO jobengine_ledger USING (true);

CREATE POLICY every_tenant ON public.registry TO jobengine_ledger USING (true);

CREATE POLICY every_tenant ON public.run_parts TO jobengine_ledger USING (true);

CREATE POLICY every_tenant ON public.runs TO jobengine_ledger USING (true);

CREATE POLICY every_tenant ON public.token_revocations TO jobengine_ledger USING (true);

CREATE POLICY every_tenant ON public.unique_keys TO jobengine_ledger USING (true);

CREATE POLICY every_tenant ON public.waiting TO jobengine_ledger USING (true);

CREATE POLICY every_tenant ON public.webhooks TO jobengine_ledger USING (true);

ALTER TABLE public.feed_cursors ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.gate_states ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.idempotency_answers ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.job_logs ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.jobs ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.leases ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.ledger_blocks ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.ledger_heads ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.ledgers ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.redrives ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.registry ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.run_parts ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.runs ENABLE ROW LEVEL SECURITY;

CREATE POLICY tenant_of_transaction ON public.api_keys TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

CREATE POLICY tenant_of_transaction ON public.artifact_chunks TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

CREATE POLICY tenant_of_transaction ON public.artifact_contents TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

CREATE POLICY tenant_of_transaction ON public.artifact_usage TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

CREATE POLICY tenant_of_transaction ON public.artifacts TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

CREATE POLICY tenant_of_transaction ON public.controls TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

CREATE POLICY tenant_of_transaction ON public.dead_letters TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

CREATE POLICY tenant_of_transaction ON public.feed_cursors TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

CREATE POLICY tenant_of_transaction ON public.gate_states TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

CREATE POLICY tenant_of_transaction ON public.idempotency_answers TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

CREATE POLICY tenant_of_transaction ON public.job_logs TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

CREATE POLICY tenant_of_transaction ON public.jobs TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

CREATE POLICY tenant_of_transaction ON public.leases TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

CREATE POLICY tenant_of_transaction ON public.ledger_blocks TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

CREATE POLICY tenant_of_transaction ON public.ledger_heads TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

CREATE POLICY tenant_of_transaction ON public.ledgers TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

CREATE POLICY tenant_of_transaction ON public.redrives TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

CREATE POLICY tenant_of_transaction ON public.registry TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

CREATE POLICY tenant_of_transaction ON public.run_parts TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

CREATE POLICY tenant_of_transaction ON public.runs TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

CREATE POLICY tenant_of_transaction ON public.token_revocations TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

CREATE POLICY tenant_of_transaction ON public.unique_keys TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

CREATE POLICY tenant_of_transaction ON public.waiting TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

CREATE POLICY tenant_of_transaction ON public.webhooks TO jobengine_api USING ((tenant_id = NULLIF(current_setting('jobengine.tenant'::text, true), ''::text)));

ALTER TABLE public.token_revocations ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.unique_keys ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.waiting ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.webhooks ENABLE ROW LEVEL SECURITY;
