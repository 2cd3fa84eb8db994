-- Jobs by id, and what exists of them at all. A job is always read with the same columns in the
-- same order (jobengine/store/postgres/rows.py).

-- name: jobs_by_id
-- purpose: jobs of a tenant, by id
-- rows: one for each id that exists, in no order
-- index: jobs_pkey
-- locks: none
-- parameters: tenant_id text, job_ids uuid[]
SELECT
    j.job_id, j.tenant_id, j.definition, j.payload, j.created_at, j.state, j.reason, j.attempt,
    j.failures, j.crashes, j.due_at, j.scheduled_at, j.started_at, j.finished_at,
    j.cancel_requested_at, j.cancel_reason, j.result, j.error, j.progress, j.seqs
FROM unnest(%(job_ids)s::uuid[]) AS wanted(job_id)
CROSS JOIN LATERAL (
    SELECT * FROM jobs WHERE tenant_id = %(tenant_id)s AND job_id = wanted.job_id OFFSET 0
) j;

-- name: job_states
-- purpose: which of these jobs are in another state than expected, or run since another instant,
--   after a stale commit
-- rows: one for each job that is not as expected or does not exist
-- index: jobs_pkey
-- locks: none
-- parameters: tenant_id text, job_ids uuid[], states text[], starts_at bigint[]
SELECT expected.job_id
FROM unnest(%(job_ids)s::uuid[], %(states)s::text[], %(starts_at)s::bigint[])
    AS expected(job_id, state, started_at)
LEFT JOIN LATERAL (
    SELECT state, started_at
    FROM jobs
    WHERE tenant_id = %(tenant_id)s AND job_id = expected.job_id
    OFFSET 0
) j ON true
WHERE j.state IS DISTINCT FROM expected.state
   OR (j.state = 'running' AND j.started_at IS DISTINCT FROM expected.started_at)
ORDER BY expected.job_id;

-- name: job_list
-- purpose: jobs of a tenant that match a filter, among the next rows_max by id, newest first
-- rows: at least one: the rows looked at, the last id among them, and a job or nulls; up to
--   jobs_max jobs, by job id descending
-- index: jobs_pkey
-- locks: none
-- parameters: tenant_id text, before_id uuid, rows_max bigint, jobs_max bigint, states text[],
--   job_type text, queue text, run_id text, source_id text, project_id text, label_name text,
--   label_value text, created_from_at bigint, created_before_at bigint
WITH seen AS MATERIALIZED (
    SELECT job_id, (
        (%(states)s::text[] IS NULL OR state = ANY (%(states)s))
        AND (%(job_type)s::text IS NULL OR job_type = %(job_type)s)
        AND (%(queue)s::text IS NULL OR queue = %(queue)s)
        AND (%(run_id)s::text IS NULL OR run_id = %(run_id)s)
        AND (%(source_id)s::text IS NULL OR source_id = %(source_id)s)
        AND (%(project_id)s::text IS NULL OR project_id = %(project_id)s)
        AND (%(created_from_at)s::bigint IS NULL OR created_at >= %(created_from_at)s)
        AND (%(created_before_at)s::bigint IS NULL OR created_at < %(created_before_at)s)
        AND (
            %(label_name)s::text IS NULL
            OR definition -> 'labels' ->> %(label_name)s = %(label_value)s
        )
    ) AS matches
    FROM jobs
    WHERE tenant_id = %(tenant_id)s AND job_id < %(before_id)s
    ORDER BY job_id DESC
    LIMIT %(rows_max)s
)
SELECT
    (SELECT count(*) FROM seen) AS looked_at,
    (SELECT job_id FROM seen ORDER BY job_id LIMIT 1) AS last_id,
    j.job_id, j.tenant_id, j.definition, j.payload, j.created_at, j.state, j.reason, j.attempt,
    j.failures, j.crashes, j.due_at, j.scheduled_at, j.started_at, j.finished_at,
    j.cancel_requested_at, j.cancel_reason, j.result, j.error, j.progress, j.seqs
FROM (SELECT) AS always
LEFT JOIN (
    seen JOIN jobs j ON seen.matches AND j.tenant_id = %(tenant_id)s AND j.job_id = seen.job_id
) ON true
ORDER BY j.job_id DESC
LIMIT %(jobs_max)s;

-- name: job_list_live
-- purpose: as job_list, for filters that name only pending, scheduled and running: it looks only at
--   jobs in those states, and at those that have ended since they were granted together with one
--   that still runs, however many others there are
-- rows: as job_list
-- index: waiting_pkey, leases_pkey, jobs_pkey
-- locks: none
-- parameters: tenant_id text, before_id uuid, rows_max bigint, jobs_max bigint, states text[],
--   job_type text, queue text, run_id text, source_id text, project_id text, label_name text,
--   label_value text, created_from_at bigint, created_before_at bigint
WITH live AS MATERIALIZED (
    (
        SELECT job_id
        FROM waiting
        WHERE tenant_id = %(tenant_id)s AND job_id < %(before_id)s AND state = ANY (%(states)s)
        ORDER BY job_id DESC
        LIMIT %(rows_max)s
    )
    UNION
    (
        SELECT DISTINCT granted.job_id
        FROM leases l
        CROSS JOIN LATERAL unnest(l.job_ids) AS granted(job_id)
        WHERE l.tenant_id = %(tenant_id)s AND granted.job_id < %(before_id)s
          AND 'running' = ANY (%(states)s)
        ORDER BY granted.job_id DESC
        LIMIT %(rows_max)s
    )
    ORDER BY job_id DESC
    LIMIT %(rows_max)s
)
SELECT
    (SELECT count(*) FROM live) AS looked_at,
    (SELECT job_id FROM live ORDER BY job_id LIMIT 1) AS last_id,
    j.job_id, j.tenant_id, j.definition, j.payload, j.created_at, j.state, j.reason, j.attempt,
    j.failures, j.crashes, j.due_at, j.scheduled_at, j.started_at, j.finished_at,
    j.cancel_requested_at, j.cancel_reason, j.result, j.error, j.progress, j.seqs
FROM (SELECT) AS always
LEFT JOIN (
    live
    JOIN jobs j
        ON j.tenant_id = %(tenant_id)s AND j.job_id = live.job_id
        AND j.state = ANY (%(states)s)
        AND (%(job_type)s::text IS NULL OR j.job_type = %(job_type)s)
        AND (%(queue)s::text IS NULL OR j.queue = %(queue)s)
        AND (%(run_id)s::text IS NULL OR j.run_id = %(run_id)s)
        AND (%(source_id)s::text IS NULL OR j.source_id = %(source_id)s)
        AND (%(project_id)s::text IS NULL OR j.project_id = %(project_id)s)
        AND (%(created_from_at)s::bigint IS NULL OR j.created_at >= %(created_from_at)s)
        AND (%(created_before_at)s::bigint IS NULL OR j.created_at < %(created_before_at)s)
        AND (
            %(label_name)s::text IS NULL
            OR j.definition -> 'labels' ->> %(label_name)s = %(label_value)s
        )
) ON true
ORDER BY j.job_id DESC
LIMIT %(jobs_max)s;

-- name: job_counts
-- purpose: how many jobs of a tenant wait and run
-- rows: up to 3, in no order: state and count
-- index: waiting_pkey, leases_pkey
-- locks: none
-- parameters: tenant_id text
SELECT state, count(*)
FROM waiting
WHERE tenant_id = %(tenant_id)s
GROUP BY state
UNION ALL
SELECT 'running', coalesce(sum(running), 0)::bigint
FROM leases
WHERE tenant_id = %(tenant_id)s;

-- name: oldest_due
-- purpose: since when the job waits that has been due longest
-- rows: 1: the instant, null where no scheduled job waits
-- index: waiting_lane
-- locks: none
-- parameters: tenant_id text
SELECT min(due_at)
FROM waiting
WHERE tenant_id = %(tenant_id)s AND state = 'scheduled';

-- name: key_holders
-- purpose: the jobs that hold unique keys at an instant
-- rows: up to one a key, in no order: the key, then the job
-- index: unique_keys_pkey, jobs_pkey
-- locks: none
-- parameters: tenant_id text, keys text[], now_at bigint
SELECT
    k.key,
    j.job_id, j.tenant_id, j.definition, j.payload, j.created_at, j.state, j.reason, j.attempt,
    j.failures, j.crashes, j.due_at, j.scheduled_at, j.started_at, j.finished_at,
    j.cancel_requested_at, j.cancel_reason, j.result, j.error, j.progress, j.seqs
FROM unnest(%(keys)s::text[]) AS wanted(key)
JOIN unique_keys k
    ON k.tenant_id = %(tenant_id)s AND k.key = wanted.key
    AND (k.until_at IS NULL OR k.until_at > %(now_at)s)
JOIN jobs j ON j.tenant_id = %(tenant_id)s AND j.job_id = k.job_id;

-- name: idempotency_answers
-- purpose: stored answers to requests, by key and path
-- rows: the newest answer of each pair since an instant, in no order
-- index: idempotency_answers_pkey of the days since
-- locks: none
-- parameters: tenant_id text, keys text[], paths text[], since_at bigint
SELECT a.key, a.path, a.body_digest, a.answer, a.at
FROM unnest(%(keys)s::text[], %(paths)s::text[]) AS wanted(key, path)
CROSS JOIN LATERAL (
    SELECT key, path, body_digest, answer, at
    FROM idempotency_answers
    WHERE tenant_id = %(tenant_id)s AND key = wanted.key AND path = wanted.path
      AND at > %(since_at)s
    ORDER BY at DESC
    LIMIT 1
) a;
