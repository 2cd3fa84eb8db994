-- One row of leases for all that was granted in a tenant at one instant, instead of one for each
-- running job: docs/decisions/0031-leases-by-instant.md.
CREATE POLICY while_migrating ON leases TO jobengine_owner USING (true);
CREATE TABLE leases_by_job AS
SELECT tenant_id, granted_at, worker_id, task_runner_id, job_id, shard FROM leases;
DROP TABLE leases;

-- Who runs what, for as long as any of it runs: occupancy is counted from here. A job is found by
-- the instant at which it started, and is in no other row for as long as it runs; ids of jobs that
-- have ended stay among the others. The holder of the n-th job is the last one whose jobs begin at
-- n or before.
CREATE TABLE leases (
    granted_at bigint NOT NULL,
    running integer NOT NULL,
    shard smallint NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    begins integer[] NOT NULL,
    worker_ids text[] NOT NULL,
    task_runner_ids text[] NOT NULL,
    job_ids uuid[] NOT NULL,
    CONSTRAINT leases_pkey PRIMARY KEY (tenant_id, granted_at),
    CONSTRAINT leases_go_with_their_last_job CHECK (running > 0),
    CONSTRAINT leases_shard_is_not_negative CHECK (shard >= 0)
) WITH (
    fillfactor = 70,
    toast_tuple_target = 256,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);
-- The count changes more often than the ids, which therefore lie outside of the row when they are
-- many.
ALTER TABLE leases ALTER COLUMN job_ids SET STORAGE EXTERNAL;

INSERT INTO leases (
    granted_at, running, shard, tenant_id, begins, worker_ids, task_runner_ids, job_ids
)
SELECT
    granted_at, jobs.running, jobs.shard, tenant_id, holders.begins, holders.worker_ids,
    holders.task_runner_ids, jobs.job_ids
FROM (
    SELECT
        tenant_id, granted_at, count(*) AS running, min(shard) AS shard,
        array_agg(job_id ORDER BY worker_id, task_runner_id, job_id) AS job_ids
    FROM leases_by_job
    GROUP BY tenant_id, granted_at
) jobs
JOIN (
    SELECT
        tenant_id, granted_at,
        array_agg(begins ORDER BY begins) AS begins,
        array_agg(worker_id ORDER BY begins) AS worker_ids,
        array_agg(task_runner_id ORDER BY begins) AS task_runner_ids
    FROM (
        SELECT
            tenant_id, granted_at, worker_id, task_runner_id,
            (1 + coalesce(sum(count(*)) OVER earlier, 0))::integer AS begins
        FROM leases_by_job
        GROUP BY tenant_id, granted_at, worker_id, task_runner_id
        WINDOW earlier AS (
            PARTITION BY tenant_id, granted_at ORDER BY worker_id, task_runner_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        )
    ) held
    GROUP BY tenant_id, granted_at
) holders USING (tenant_id, granted_at);
DROP TABLE leases_by_job;

ALTER TABLE leases ENABLE ROW LEVEL SECURITY;
ALTER TABLE leases FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_of_transaction ON leases TO jobengine_api
    USING (tenant_id = nullif(current_setting('jobengine.tenant', true), ''));
CREATE POLICY every_tenant ON leases TO jobengine_ledger USING (true);
GRANT SELECT ON leases TO jobengine_api, jobengine_ledger;
GRANT INSERT, UPDATE, DELETE ON leases TO jobengine_ledger;
