-- What admission reads: controls, states of gates, backlogs and places in a lane.

-- name: controls_of_shard
-- purpose: every control of the tenants of a shard, asked once an ownership
-- rows: by tenant, kind and name
-- index: controls_shard
-- locks: none
-- parameters: shard smallint
SELECT tenant_id, shard, kind, name, body, revision, changed_at
FROM controls
WHERE shard = %(shard)s
ORDER BY tenant_id, kind, name;

-- name: gate_states_of_shard
-- purpose: what the gates of a shard's tenants remember, asked once an ownership
-- rows: by tenant and name
-- index: none; the table is small and read whole
-- locks: none
-- parameters: shard smallint
SELECT tenant_id, shard, name, body
FROM gate_states
WHERE shard = %(shard)s
ORDER BY tenant_id, name;

-- name: control_list
-- purpose: the controls of a tenant and kind
-- rows: up to controls_max, by name
-- index: controls_pkey
-- locks: none
-- parameters: tenant_id text, kind text, after_name text, controls_max bigint
SELECT tenant_id, shard, kind, name, body, revision, changed_at
FROM controls
WHERE tenant_id = %(tenant_id)s AND kind = %(kind)s AND name > %(after_name)s
ORDER BY name
LIMIT %(controls_max)s;

-- name: control_by_name
-- purpose: one control
-- rows: 0 or 1
-- index: controls_pkey
-- locks: none
-- parameters: tenant_id text, kind text, control_name text
SELECT tenant_id, shard, kind, name, body, revision, changed_at
FROM controls
WHERE tenant_id = %(tenant_id)s AND kind = %(kind)s AND name = %(control_name)s;

-- name: backlogs_of_shard
-- purpose: how many jobs of each tenant of a shard wait, asked once an ownership
-- rows: by tenant
-- index: waiting_pkey, leaping from tenant to tenant, then over the jobs of the shard's own
-- locks: none
-- parameters: shard smallint
WITH RECURSIVE tenant AS (
    (
        SELECT tenant_id, shard
        FROM waiting
        ORDER BY tenant_id
        LIMIT 1
    )
    UNION ALL
    SELECT following.*
    FROM tenant
    CROSS JOIN LATERAL (
        SELECT tenant_id, shard
        FROM waiting w
        WHERE w.tenant_id > tenant.tenant_id
        ORDER BY tenant_id
        LIMIT 1
    ) following
)
SELECT tenant_id, (SELECT count(*) FROM waiting w WHERE w.tenant_id = tenant.tenant_id)
FROM tenant
WHERE shard = %(shard)s
ORDER BY tenant_id;

-- name: jobs_ahead
-- purpose: how many jobs of a lane stand before a rank
-- rows: 1, at most jobs_max
-- index: waiting_lane
-- locks: none
-- parameters: tenant_id text, queue text, job_type text, source_id text, before_rank bigint,
--   before_id uuid, now_at bigint, jobs_max bigint
SELECT count(*)
FROM (
    SELECT
    FROM waiting
    WHERE tenant_id = %(tenant_id)s AND queue = %(queue)s AND job_type = %(job_type)s
      AND source_id = %(source_id)s AND state = 'scheduled'
      AND (rank, job_id) < (%(before_rank)s, %(before_id)s)
      AND (due_at <= %(now_at)s OR NOT delayed)
    LIMIT %(jobs_max)s
) ahead;
