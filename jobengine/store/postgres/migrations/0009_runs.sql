-- Runs, the nodes and edges that they were created with or grew by, and registered documents.
-- Nothing is stored for a node but its job: docs/decisions/0024-runs.md.

-- An index here that is not the key says that its own column is not null, which the table says too:
-- so it serves nobody but who asks by that column. While a table is empty all indexes cost the same,
-- and a plan that was made then, and kept, could go through all runs of a tenant for one.

-- began_at is the instant that an ended run is exported under; policies let no index serve an
-- expression.
CREATE TABLE runs (
    run_id uuid NOT NULL,
    created_at bigint NOT NULL,
    started_at bigint,
    finished_at bigint,
    began_at bigint GENERATED ALWAYS AS (coalesce(started_at, finished_at)) STORED,
    cancel_requested_at bigint,
    nodes integer NOT NULL,
    dag_version integer,
    shard smallint NOT NULL,
    fail_fast boolean NOT NULL,
    replay_of uuid,
    parent_run uuid,
    tenant_id text COLLATE "C" NOT NULL,
    run_token text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
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
    CONSTRAINT runs_pkey PRIMARY KEY (tenant_id, run_id),
    CONSTRAINT runs_ended_at_an_instant CHECK (
        state NOT IN ('completed', 'failed', 'cancelled') OR finished_at IS NOT NULL
    ),
    CONSTRAINT runs_nodes_are_not_negative CHECK (nodes >= 0),
    CONSTRAINT runs_running_has_started CHECK (state <> 'running' OR started_at IS NOT NULL),
    CONSTRAINT runs_shard_is_not_negative CHECK (shard >= 0),
    CONSTRAINT runs_state_is_known
        CHECK (state IN ('pending', 'running', 'completed', 'failed', 'cancelled'))
);
CREATE UNIQUE INDEX runs_token_is_one_runs ON runs (tenant_id, run_token)
    WHERE run_token IS NOT NULL;
CREATE INDEX runs_newest ON runs (tenant_id, created_at, run_id) WHERE created_at IS NOT NULL;
CREATE INDEX runs_unfinished ON runs (shard, tenant_id, run_id)
    WHERE state IN ('pending', 'running');
CREATE INDEX runs_ended ON runs (tenant_id, began_at, run_id)
    WHERE state IN ('completed', 'failed', 'cancelled');

-- A run of 10,000 nodes is about a megabyte of them, which the server compresses.
CREATE TABLE run_parts (
    run_id uuid NOT NULL,
    part integer NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    body json NOT NULL,
    CONSTRAINT run_parts_pkey PRIMARY KEY (tenant_id, run_id, part),
    CONSTRAINT run_parts_are_counted_from_zero CHECK (part >= 0)
);

-- DAG templates and packs: a version never changes, but it can be disabled.
CREATE TABLE registry (
    created_at bigint NOT NULL,
    disabled_at bigint,
    version integer NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    digest text COLLATE "C" NOT NULL,
    created_by text NOT NULL,
    body json NOT NULL,
    CONSTRAINT registry_pkey PRIMARY KEY (tenant_id, kind, name, version),
    CONSTRAINT registry_digest_is_a_sha256 CHECK (digest ~ '^[0-9a-f]{64}$'),
    CONSTRAINT registry_version_counts CHECK (version > 0)
);
CREATE INDEX registry_digest ON registry (tenant_id, kind, digest, created_at, name, version)
    WHERE digest IS NOT NULL;

-- The jobs of a run. A job never changes its run, so a change of a job still touches no index.
CREATE INDEX jobs_of_run ON jobs (tenant_id, run_id, job_id) WHERE run_id IS NOT NULL;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['runs', 'run_parts', 'registry'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant_of_transaction ON %I TO jobengine_api USING '
            '(tenant_id = nullif(current_setting(''jobengine.tenant'', true), ''''))',
            name
        );
        EXECUTE format('CREATE POLICY every_tenant ON %I TO jobengine_ledger USING (true)', name);
    END LOOP;
END
$$;
GRANT SELECT ON runs, run_parts, registry TO jobengine_api, jobengine_ledger;
GRANT INSERT, UPDATE ON runs, registry TO jobengine_ledger;
GRANT INSERT ON run_parts TO jobengine_ledger;
