-- How far consumers of the tenants' events have come: docs/decisions/0027-bus.md.

-- Written beside the commits, often and in place: no index but the key, and room for new versions in
-- the same page.
CREATE TABLE feed_cursors (
    seq bigint NOT NULL,
    at bigint NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    feed text COLLATE "C" NOT NULL,
    note json NOT NULL,
    CONSTRAINT feed_cursors_pkey PRIMARY KEY (tenant_id, feed),
    CONSTRAINT feed_cursors_seq_is_not_negative CHECK (seq >= 0)
) WITH (
    fillfactor = 30,
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);

ALTER TABLE feed_cursors ENABLE ROW LEVEL SECURITY;
ALTER TABLE feed_cursors FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_of_transaction ON feed_cursors TO jobengine_api
    USING (tenant_id = nullif(current_setting('jobengine.tenant', true), ''));
CREATE POLICY every_tenant ON feed_cursors TO jobengine_ledger USING (true);
GRANT SELECT ON feed_cursors TO jobengine_api, jobengine_ledger;
GRANT INSERT, UPDATE, DELETE ON feed_cursors TO jobengine_ledger;
