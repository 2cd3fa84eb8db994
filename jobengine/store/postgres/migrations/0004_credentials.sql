-- Who may ask, beyond what a token proves by itself: API keys, and tokens that were revoked.

-- An engine reads both at its start and then what has changed since: each change takes the next
-- position. Commits go one after another, so positions become visible in their order.
CREATE SEQUENCE credential_positions;

-- A key is known by its public prefix. Only the SHA-256 of it is here, and rows are never removed.
CREATE TABLE api_keys (
    position bigint NOT NULL DEFAULT nextval('credential_positions'),
    created_at bigint NOT NULL,
    expires_at bigint,
    revoked_at bigint,
    last_used_day_at bigint,
    tenant_id text COLLATE "C" NOT NULL,
    prefix text COLLATE "C" NOT NULL,
    digest text COLLATE "C" NOT NULL,
    label text NOT NULL,
    created_by text NOT NULL,
    scopes text[] NOT NULL,
    CONSTRAINT api_keys_pkey PRIMARY KEY (tenant_id, prefix),
    CONSTRAINT api_keys_prefix_is_one_keys UNIQUE (prefix),
    CONSTRAINT api_keys_digest_is_a_sha256 CHECK (digest ~ '^[0-9a-f]{64}$'),
    CONSTRAINT api_keys_expire_after_they_were_made CHECK (expires_at > created_at)
);
CREATE INDEX api_keys_newest ON api_keys (tenant_id, created_at, prefix);
CREATE INDEX api_keys_changed ON api_keys (position);

-- A token that counts no more for a tenant, kept until it would have expired anyway.
CREATE TABLE token_revocations (
    position bigint NOT NULL DEFAULT nextval('credential_positions'),
    at bigint NOT NULL,
    until_at bigint,
    tenant_id text COLLATE "C" NOT NULL,
    token_id text COLLATE "C" NOT NULL,
    CONSTRAINT token_revocations_pkey PRIMARY KEY (tenant_id, token_id)
);
CREATE INDEX token_revocations_changed ON token_revocations (position);
CREATE INDEX token_revocations_over ON token_revocations (until_at) WHERE until_at IS NOT NULL;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['api_keys', 'token_revocations'] LOOP
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

GRANT SELECT ON api_keys, token_revocations TO jobengine_api, jobengine_ledger;
GRANT INSERT, UPDATE ON api_keys TO jobengine_ledger;
GRANT INSERT, UPDATE, DELETE ON token_revocations TO jobengine_ledger;
GRANT USAGE ON SEQUENCE credential_positions TO jobengine_ledger;
