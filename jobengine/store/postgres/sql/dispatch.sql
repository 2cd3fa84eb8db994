-- What dispatching reads: the backlog by lane, what falls due, and who runs.

-- name: leased
-- purpose: every live lease of a shard with its job
-- rows: one a lease, by tenant and job id
-- index: jobs_pkey; leases is read whole, for it is small and this is asked once an ownership
-- locks: none
-- parameters: shard smallint
SELECT
    l.worker_ids[width_bucket(held.place, l.begins)],
    l.task_runner_ids[width_bucket(held.place, l.begins)],
    l.granted_at,
    j.job_id, j.tenant_id, j.definition, j.payload, j.created_at, j.state, j.reason, j.attempt,
    j.failures, j.crashes, j.due_at, j.scheduled_at, j.started_at, j.finished_at,
    j.cancel_requested_at, j.cancel_reason, j.result, j.error, j.progress, j.seqs
FROM leases l
CROSS JOIN LATERAL (
    -- Granted twice at one instant, a job is held by whom it was granted to last.
    SELECT job_id, max(place)::integer AS place
    FROM unnest(l.job_ids) WITH ORDINALITY AS granted(job_id, place)
    GROUP BY job_id
) held
CROSS JOIN LATERAL (
    SELECT *
    FROM jobs
    WHERE tenant_id = l.tenant_id AND job_id = held.job_id AND state = 'running'
      AND started_at = l.granted_at
    OFFSET 0
) j
WHERE l.shard = %(shard)s
ORDER BY l.tenant_id, held.job_id;

-- name: lanes
-- purpose: the lanes of a shard that hold a scheduled job due by now
-- rows: tenant, queue, job type and source, in that order
-- index: waiting_lane, leaping from lane to lane, and over the lanes of tenants of other shards
-- locks: none
-- parameters: shard smallint, now_at bigint
WITH RECURSIVE lane AS (
    (
        SELECT tenant_id, queue, job_type, source_id, shard
        FROM waiting
        WHERE state = 'scheduled'
        ORDER BY tenant_id, queue, job_type, source_id
        LIMIT 1
    )
    UNION ALL
    SELECT following.*
    FROM lane
    CROSS JOIN LATERAL (
        (
            SELECT tenant_id, queue, job_type, source_id, shard
            FROM waiting w
            WHERE lane.shard = %(shard)s AND w.state = 'scheduled'
              AND (w.tenant_id, w.queue, w.job_type, w.source_id)
                  > (lane.tenant_id, lane.queue, lane.job_type, lane.source_id)
            ORDER BY tenant_id, queue, job_type, source_id
            LIMIT 1
        )
        UNION ALL
        (
            SELECT tenant_id, queue, job_type, source_id, shard
            FROM waiting w
            WHERE lane.shard <> %(shard)s AND w.state = 'scheduled'
              AND w.tenant_id > lane.tenant_id
            ORDER BY tenant_id, queue, job_type, source_id
            LIMIT 1
        )
    ) following
)
SELECT tenant_id, queue, job_type, source_id
FROM lane
WHERE shard = %(shard)s AND EXISTS (
    SELECT
    FROM waiting w
    WHERE w.tenant_id = lane.tenant_id AND w.queue = lane.queue AND w.job_type = lane.job_type
      AND w.source_id = lane.source_id AND w.state = 'scheduled'
      AND (w.due_at <= %(now_at)s OR NOT w.delayed)
)
ORDER BY tenant_id, queue, job_type, source_id;

-- name: ready
-- purpose: the next due jobs of a lane
-- rows: up to jobs_max, by rank and job id; fewer where their payloads exceed bytes_max together,
--   but one in any case
-- index: waiting_lane, jobs_pkey
-- locks: none
-- parameters: tenant_id text, queue text, job_type text, source_id text, after_rank bigint,
--   after_id uuid, now_at bigint, jobs_max bigint, bytes_max bigint
WITH found AS MATERIALIZED (
    SELECT
        w.rank, w.job_id,
        row_number() OVER following AS place,
        sum(j.payload_bytes) OVER following AS bytes
    FROM (
        SELECT rank, job_id
        FROM waiting
        WHERE tenant_id = %(tenant_id)s AND queue = %(queue)s AND job_type = %(job_type)s
          AND source_id = %(source_id)s AND state = 'scheduled'
          AND (rank, job_id) > (%(after_rank)s, %(after_id)s)
          AND (due_at <= %(now_at)s OR NOT delayed)
        ORDER BY rank, job_id
        LIMIT %(jobs_max)s
    ) w
    JOIN jobs j ON j.tenant_id = %(tenant_id)s AND j.job_id = w.job_id
    WINDOW following AS (ORDER BY w.rank, w.job_id ROWS UNBOUNDED PRECEDING)
)
SELECT
    found.rank,
    j.job_id, j.tenant_id, j.definition, j.payload, j.created_at, j.state, j.reason, j.attempt,
    j.failures, j.crashes, j.due_at, j.scheduled_at, j.started_at, j.finished_at,
    j.cancel_requested_at, j.cancel_reason, j.result, j.error, j.progress, j.seqs
FROM found
JOIN jobs j ON j.tenant_id = %(tenant_id)s AND j.job_id = found.job_id
WHERE found.place = 1 OR found.bytes <= %(bytes_max)s
ORDER BY found.rank, found.job_id;

-- name: delayed
-- purpose: the next delayed jobs of a shard
-- rows: up to jobs_max, by due instant and job id
-- index: waiting_delayed, jobs_pkey
-- locks: none
-- parameters: shard smallint, after_at bigint, after_id uuid, jobs_max bigint
SELECT
    w.rank,
    j.job_id, j.tenant_id, j.definition, j.payload, j.created_at, j.state, j.reason, j.attempt,
    j.failures, j.crashes, j.due_at, j.scheduled_at, j.started_at, j.finished_at,
    j.cancel_requested_at, j.cancel_reason, j.result, j.error, j.progress, j.seqs
FROM (
    SELECT tenant_id, job_id, rank, due_at
    FROM waiting
    WHERE shard = %(shard)s AND delayed AND state = 'scheduled'
      AND (due_at, job_id) > (%(after_at)s, %(after_id)s)
    ORDER BY due_at, job_id
    LIMIT %(jobs_max)s
) w
JOIN jobs j ON j.tenant_id = w.tenant_id AND j.job_id = w.job_id
ORDER BY w.due_at, w.job_id;

-- name: expiring
-- purpose: the next waiting jobs of a shard that expire
-- rows: up to jobs_max, by expiry and job id
-- index: waiting_expiring
-- locks: none
-- parameters: shard smallint, after_at bigint, after_id uuid, jobs_max bigint
SELECT expires_at, tenant_id, job_id
FROM waiting
WHERE shard = %(shard)s AND expires_at IS NOT NULL
  AND (expires_at, job_id) > (%(after_at)s, %(after_id)s)
ORDER BY expires_at, job_id
LIMIT %(jobs_max)s;
