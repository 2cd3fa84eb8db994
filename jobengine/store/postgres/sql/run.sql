-- Runs, their parts and their nodes, and registered documents. What changes them travels in
-- commit_all. A run is always read with the same columns in the same order, and so is a node
-- (jobengine/store/postgres/runs.py).
--
-- The server takes longer to find a key in a definition, or to hash a small result, than both ends
-- take to pass it on; so nodes come with their definitions and small results.

-- name: run_by_id
-- purpose: one run
-- rows: 0 or 1
-- index: runs_pkey
-- locks: none
-- parameters: tenant_id text, run_id uuid
SELECT
    tenant_id, run_id, run_token, state, nodes, created_at, created_by, started_at, finished_at,
    cancel_requested_at, rolled, project_id, dag_id, dag_version, fail_fast, inputs, inputs_hash,
    traceparent, correlation_id, replay_of, parent_run, parent_key, pack
FROM runs
WHERE tenant_id = %(tenant_id)s AND run_id = %(run_id)s;

-- name: run_by_token
-- purpose: the run that has a token
-- rows: 0 or 1
-- index: runs_token_is_one_runs
-- locks: none
-- parameters: tenant_id text, run_token text
SELECT
    tenant_id, run_id, run_token, state, nodes, created_at, created_by, started_at, finished_at,
    cancel_requested_at, rolled, project_id, dag_id, dag_version, fail_fast, inputs, inputs_hash,
    traceparent, correlation_id, replay_of, parent_run, parent_key, pack
FROM runs
WHERE tenant_id = %(tenant_id)s AND run_token = %(run_token)s;

-- name: run_list
-- purpose: runs of a tenant that match a filter, newest first
-- rows: up to runs_max, by (created_at, run_id) descending
-- index: runs_newest
-- locks: none
-- parameters: tenant_id text, before_at bigint, before_id uuid, runs_max bigint, states text[],
--   dag_id text, project_id text, pack_id text, packs boolean, created_from_at bigint,
--   created_before_at bigint
SELECT
    tenant_id, run_id, run_token, state, nodes, created_at, created_by, started_at, finished_at,
    cancel_requested_at, rolled, project_id, dag_id, dag_version, fail_fast, inputs, inputs_hash,
    traceparent, correlation_id, replay_of, parent_run, parent_key, pack
FROM runs
WHERE tenant_id = %(tenant_id)s
  AND (created_at, run_id) < (%(before_at)s, %(before_id)s)
  AND created_at >= %(created_from_at)s AND created_at < %(created_before_at)s
  AND (%(states)s::text[] IS NULL OR state = ANY (%(states)s))
  AND (%(dag_id)s::text IS NULL OR dag_id = %(dag_id)s)
  AND (%(project_id)s::text IS NULL OR project_id = %(project_id)s)
  AND (%(pack_id)s::text IS NULL OR pack ->> 'packId' = %(pack_id)s)
  AND (NOT %(packs)s OR pack IS NOT NULL)
ORDER BY created_at DESC, run_id DESC
LIMIT %(runs_max)s;

-- name: run_export
-- purpose: ended runs of a tenant that started in a span, or ended in it without a start
-- rows: up to runs_max, by (that instant, run_id)
-- index: runs_ended
-- locks: none
-- parameters: tenant_id text, from_at bigint, before_at bigint, after_at bigint, after_id uuid,
--   runs_max bigint
SELECT
    tenant_id, run_id, run_token, state, nodes, created_at, created_by, started_at, finished_at,
    cancel_requested_at, rolled, project_id, dag_id, dag_version, fail_fast, inputs, inputs_hash,
    traceparent, correlation_id, replay_of, parent_run, parent_key, pack
FROM runs
WHERE tenant_id = %(tenant_id)s AND state IN ('completed', 'failed', 'cancelled')
  AND (began_at, run_id) > (%(after_at)s, %(after_id)s)
  AND began_at >= %(from_at)s AND began_at < %(before_at)s
ORDER BY began_at, run_id
LIMIT %(runs_max)s;

-- name: runs_live
-- purpose: runs of the tenants of a shard that have not ended, asked once an ownership
-- rows: up to runs_max, by tenant and id
-- index: runs_unfinished
-- locks: none
-- parameters: shard smallint, after_tenant text, after_id uuid, runs_max bigint
SELECT
    tenant_id, run_id, run_token, state, nodes, created_at, created_by, started_at, finished_at,
    cancel_requested_at, rolled, project_id, dag_id, dag_version, fail_fast, inputs, inputs_hash,
    traceparent, correlation_id, replay_of, parent_run, parent_key, pack
FROM runs
WHERE shard = %(shard)s AND state IN ('pending', 'running')
  AND (tenant_id, run_id) > (%(after_tenant)s, %(after_id)s)
ORDER BY tenant_id, run_id
LIMIT %(runs_max)s;

-- name: parts_of_run
-- purpose: the nodes and edges that a run was created with and grew by
-- rows: one a part, in order
-- index: run_parts_pkey
-- locks: none
-- parameters: tenant_id text, run_id uuid
SELECT body
FROM run_parts
WHERE tenant_id = %(tenant_id)s AND run_id = %(run_id)s
ORDER BY part;

-- name: nodes_of_run
-- purpose: the jobs of a run as nodes, without payloads, and with a digest for a large result
-- rows: up to nodes_max, by job_id
-- index: jobs_of_run
-- locks: none
-- parameters: tenant_id text, run_id text, after_id uuid, nodes_max bigint
SELECT
    j.job_id::text, definition, job_type, queue, state, reason, attempt, failures, created_at,
    due_at, scheduled_at, started_at, finished_at, cancel_requested_at,
    CASE WHEN pg_column_size(result) <= 1024 THEN result END,
    CASE WHEN pg_column_size(result) > 1024
        THEN encode(sha256(convert_to(result::text, 'UTF8')), 'hex') END,
    error ->> 'class', CASE error ->> 'retryable' WHEN 'true' THEN true WHEN 'false' THEN false END,
    progress, seqs
FROM jobs j
WHERE tenant_id = %(tenant_id)s AND run_id = %(run_id)s AND job_id > %(after_id)s
ORDER BY j.job_id
LIMIT %(nodes_max)s;

-- name: nodes_by_id
-- purpose: jobs as nodes, as nodes_of_run has them
-- rows: one for each id that exists, by job_id
-- index: jobs_pkey
-- locks: none
-- parameters: tenant_id text, job_ids uuid[]
SELECT
    j.job_id::text, definition, job_type, queue, state, reason, attempt, failures, created_at,
    due_at, scheduled_at, started_at, finished_at, cancel_requested_at,
    CASE WHEN pg_column_size(result) <= 1024 THEN result END,
    CASE WHEN pg_column_size(result) > 1024
        THEN encode(sha256(convert_to(result::text, 'UTF8')), 'hex') END,
    error ->> 'class', CASE error ->> 'retryable' WHEN 'true' THEN true WHEN 'false' THEN false END,
    progress, seqs
FROM unnest(%(job_ids)s::uuid[]) AS wanted(job_id)
CROSS JOIN LATERAL (
    SELECT * FROM jobs WHERE tenant_id = %(tenant_id)s AND job_id = wanted.job_id OFFSET 0
) j
ORDER BY j.job_id;

-- name: logs_of_run
-- purpose: stored log lines of the jobs of a run, in the order in which they were committed
-- rows: up to rows_max, by position; none behind the one whose lines reach bytes_max
-- index: jobs_of_run, and job_logs_pkey of each day from the one before the run on
-- locks: none
-- parameters: tenant_id text, run_id text, after bigint, rows_max bigint, bytes_max bigint
SELECT position, job_id, attempt, at, lines
FROM (
    SELECT
        measured.*,
        sum(bytes) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) - bytes AS bytes_before
    FROM (
        SELECT following.*, octet_length(lines::text) AS bytes
        FROM (
            SELECT l.position, j.job_id::text, l.attempt, l.at, l.lines
            FROM jobs j
            CROSS JOIN LATERAL (
                SELECT position, attempt, at, lines
                FROM job_logs
                WHERE tenant_id = %(tenant_id)s AND job_id = j.job_id AND position > %(after)s
                  AND at > (
                      SELECT created_at - 86400000000
                      FROM runs
                      WHERE tenant_id = %(tenant_id)s AND run_id = %(run_id)s::text::uuid
                  )
                ORDER BY position
                LIMIT %(rows_max)s
            ) l
            WHERE j.tenant_id = %(tenant_id)s AND j.run_id = %(run_id)s::text AND j.attempt > 0
            ORDER BY l.position
            LIMIT %(rows_max)s
        ) following
    ) measured
) bounded
WHERE bytes_before < %(bytes_max)s
ORDER BY position;

-- name: artifacts_of_run
-- purpose: the artifacts that attempts of the jobs of a run have named, with their nodes
-- rows: up to rows_max, by (key, attempt, name)
-- index: jobs_of_run, artifacts_pkey
-- locks: none
-- parameters: tenant_id text, run_id text, after_key text, after_attempt integer,
--   after_name text, rows_max bigint
SELECT key, job_id::text, attempt, name, uri, digest, mime, size_bytes, at
FROM (
    SELECT
        (j.definition ->> 'nodeKey') COLLATE "C" AS key, a.job_id, a.attempt, a.name, a.uri,
        a.digest, a.mime, a.size_bytes, a.at
    FROM jobs j
    JOIN artifacts a ON a.tenant_id = j.tenant_id AND a.job_id = j.job_id
    WHERE j.tenant_id = %(tenant_id)s AND j.run_id = %(run_id)s
) named
WHERE (key, attempt, name) > (%(after_key)s, %(after_attempt)s, %(after_name)s)
ORDER BY key, attempt, name
LIMIT %(rows_max)s;

-- name: typical_durations
-- purpose: how long attempts took, by job type, among the completed of a tenant's newest jobs
-- rows: one a job type, in no order: the type and the lower median in microseconds
-- index: jobs_pkey
-- locks: none
-- parameters: tenant_id text, jobs_max bigint
SELECT job_type, percentile_disc(0.5) WITHIN GROUP (ORDER BY finished_at - started_at)
FROM (
    SELECT job_type, state, started_at, finished_at
    FROM jobs
    WHERE tenant_id = %(tenant_id)s
    ORDER BY job_id DESC
    LIMIT %(jobs_max)s
) newest
WHERE state = 'completed' AND started_at IS NOT NULL AND finished_at IS NOT NULL
GROUP BY job_type;

-- name: document_by_name
-- purpose: a version of a registered document, or its newest
-- rows: 0 or 1
-- index: registry_pkey
-- locks: none
-- parameters: tenant_id text, kind text, document_name text, version integer
SELECT tenant_id, kind, name, version, digest, created_at, created_by, disabled_at, body
FROM registry
WHERE tenant_id = %(tenant_id)s AND kind = %(kind)s AND name = %(document_name)s
  AND (%(version)s::integer IS NULL OR version = %(version)s)
ORDER BY version DESC
LIMIT 1;

-- name: document_by_digest
-- purpose: the oldest registered document of a kind that has a digest
-- rows: 0 or 1
-- index: registry_digest
-- locks: none
-- parameters: tenant_id text, kind text, digest text
SELECT tenant_id, kind, name, version, digest, created_at, created_by, disabled_at, body
FROM registry
WHERE tenant_id = %(tenant_id)s AND kind = %(kind)s AND digest = %(digest)s
ORDER BY created_at, name, version
LIMIT 1;

-- name: document_list
-- purpose: versions of the documents of a kind, without their bodies
-- rows: up to rows_max, by name and version
-- index: registry_pkey
-- locks: none
-- parameters: tenant_id text, kind text, after_name text, after_version integer, rows_max bigint
SELECT tenant_id, kind, name, version, digest, created_at, created_by, disabled_at
FROM registry
WHERE tenant_id = %(tenant_id)s AND kind = %(kind)s
  AND (name, version) > (%(after_name)s, %(after_version)s)
ORDER BY name, version
LIMIT %(rows_max)s;

-- name: document_versions
-- purpose: as document_list, of one name
-- rows: up to rows_max, by version
-- index: registry_pkey
-- locks: none
-- parameters: tenant_id text, kind text, document_name text, after_version integer,
--   rows_max bigint
SELECT tenant_id, kind, name, version, digest, created_at, created_by, disabled_at
FROM registry
WHERE tenant_id = %(tenant_id)s AND kind = %(kind)s AND name = %(document_name)s
  AND version > %(after_version)s
ORDER BY version
LIMIT %(rows_max)s;

-- name: run_states
-- purpose: which of these runs are in another state than expected, after a stale commit
-- rows: one for each that is not in its expected state or does not exist
-- index: runs_pkey
-- locks: none
-- parameters: tenant_id text, run_ids uuid[], states text[]
SELECT expected.run_id
FROM unnest(%(run_ids)s::uuid[], %(states)s::text[]) AS expected(run_id, state)
LEFT JOIN runs r ON r.tenant_id = %(tenant_id)s AND r.run_id = expected.run_id
WHERE r.state IS DISTINCT FROM expected.state
ORDER BY expected.run_id;
