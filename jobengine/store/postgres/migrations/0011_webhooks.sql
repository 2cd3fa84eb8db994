-- Webhooks: where a tenant's events are delivered to (docs/decisions/0026-webhooks.md). How far each
-- has come stands in feed_cursors.

-- secret is sealed with a key that is not in the database.
CREATE TABLE webhooks (
    begins_after_seq bigint NOT NULL,
    created_at bigint NOT NULL,
    changed_at bigint NOT NULL,
    revision integer NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    webhook_id text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    wrapping text COLLATE "C" NOT NULL,
    url text NOT NULL,
    types text[] NOT NULL,
    description text NOT NULL,
    created_by text NOT NULL,
    reason text,
    secret bytea NOT NULL,
    CONSTRAINT webhooks_pkey PRIMARY KEY (tenant_id, webhook_id),
    CONSTRAINT webhooks_revision_counts CHECK (revision > 0),
    CONSTRAINT webhooks_state_is_known CHECK (state IN ('active', 'paused')),
    CONSTRAINT webhooks_wrapping_is_known CHECK (wrapping IN ('none', 'dsse'))
);

ALTER TABLE webhooks ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhooks FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_of_transaction ON webhooks TO jobengine_api
    USING (tenant_id = nullif(current_setting('jobengine.tenant', true), ''));
CREATE POLICY every_tenant ON webhooks TO jobengine_ledger USING (true);
GRANT SELECT ON webhooks TO jobengine_api, jobengine_ledger;
GRANT INSERT, UPDATE, DELETE ON webhooks TO jobengine_ledger;
