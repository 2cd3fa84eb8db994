-- A head is found by its very number, among however many versions of it that cannot be vacuumed:
-- docs/decisions/0037-heads-by-number.md.
CREATE POLICY while_migrating ON ledger_heads TO jobengine_owner USING (true);

-- The tenants that have a ledger. A row is never changed, so that of two first commits of a tenant
-- one finds it.
CREATE TABLE ledgers (
    tenant_id text COLLATE "C" NOT NULL,
    CONSTRAINT ledgers_pkey PRIMARY KEY (tenant_id)
);
INSERT INTO ledgers SELECT tenant_id FROM ledger_heads;

ALTER TABLE ledger_heads
    DROP CONSTRAINT ledger_heads_pkey,
    ADD CONSTRAINT ledger_heads_pkey PRIMARY KEY (tenant_id, next_seq);
DROP POLICY while_migrating ON ledger_heads;

ALTER TABLE ledgers ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledgers FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_of_transaction ON ledgers TO jobengine_api
    USING (tenant_id = nullif(current_setting('jobengine.tenant', true), ''));
CREATE POLICY every_tenant ON ledgers TO jobengine_ledger USING (true);
GRANT SELECT ON ledgers TO jobengine_api, jobengine_ledger;
GRANT INSERT ON ledgers TO jobengine_ledger;
