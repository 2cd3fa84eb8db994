-- What operators have set about admission, what gates remember across a restart, and the source as
-- a part of a lane: docs/decisions/0018-admission.md.

-- Jobs of one queue and type are read by source, so that a source that is held up never keeps those
-- of another out of memory.
CREATE POLICY while_migrating ON waiting TO jobengine_owner USING (true);
CREATE POLICY while_migrating ON jobs TO jobengine_owner USING (true);
ALTER TABLE waiting ADD COLUMN source_id text COLLATE "C" NOT NULL DEFAULT '';
UPDATE waiting w
SET source_id = j.source_id
FROM jobs j
WHERE j.tenant_id = w.tenant_id AND j.job_id = w.job_id AND j.source_id IS NOT NULL;
DROP POLICY while_migrating ON waiting;
DROP POLICY while_migrating ON jobs;
DROP INDEX waiting_lane;
CREATE INDEX waiting_lane ON waiting (tenant_id, queue, job_type, source_id, rank, job_id)
    WHERE state = 'scheduled';

-- Sources, quotas, throttles, blackouts, pauses, weights and the platform's governance, each a
-- document of its kind.
CREATE TABLE controls (
    changed_at bigint NOT NULL,
    revision integer NOT NULL,
    shard smallint NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    body json NOT NULL,
    CONSTRAINT controls_pkey PRIMARY KEY (tenant_id, kind, name),
    CONSTRAINT controls_kind_is_known CHECK (
        kind IN ('source', 'quota', 'throttle', 'blackout', 'pause', 'weight', 'governance')
    ),
    CONSTRAINT controls_revision_counts CHECK (revision > 0),
    CONSTRAINT controls_shard_is_not_negative CHECK (shard >= 0)
);
CREATE INDEX controls_shard ON controls (shard);

-- Tokens of buckets and states of breakers: written in the commit of the grants they let through.
CREATE TABLE gate_states (
    shard smallint NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    body json NOT NULL,
    CONSTRAINT gate_states_pkey PRIMARY KEY (tenant_id, name),
    CONSTRAINT gate_states_shard_is_not_negative CHECK (shard >= 0)
) WITH (
    fillfactor = 30,
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['controls', 'gate_states'] LOOP
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
GRANT SELECT ON controls, gate_states TO jobengine_api, jobengine_ledger;
GRANT INSERT, UPDATE, DELETE ON controls, gate_states TO jobengine_ledger;
