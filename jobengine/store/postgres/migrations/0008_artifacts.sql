-- The bytes of artifacts, addressed by their SHA-256. Why they are here and not in files:
-- docs/decisions/0016-artifacts-in-the-database.md.

-- Without a digest, bytes are still coming, or an upload was cut.
CREATE TABLE artifact_contents (
    stored_at bigint NOT NULL,
    touched_at bigint NOT NULL,
    size_bytes bigint NOT NULL DEFAULT 0,
    content_id uuid NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    digest text COLLATE "C",
    mime text NOT NULL,
    CONSTRAINT artifact_contents_pkey PRIMARY KEY (tenant_id, content_id),
    CONSTRAINT artifact_contents_digest_is_one_contents UNIQUE (tenant_id, digest),
    CONSTRAINT artifact_contents_digest_is_a_sha256 CHECK (digest ~ '^sha256:[0-9a-f]{64}$'),
    CONSTRAINT artifact_contents_sizes_are_not_negative CHECK (size_bytes >= 0)
);
CREATE INDEX artifact_contents_untouched
    ON artifact_contents (touched_at, tenant_id, content_id);

-- Compressing what is mostly compressed already would cost more than it saves.
CREATE TABLE artifact_chunks (
    content_id uuid NOT NULL,
    number integer NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    chunk bytea NOT NULL,
    CONSTRAINT artifact_chunks_pkey PRIMARY KEY (tenant_id, content_id, number),
    CONSTRAINT artifact_chunks_numbers_are_not_negative CHECK (number >= 0)
);
ALTER TABLE artifact_chunks ALTER COLUMN chunk SET STORAGE EXTERNAL;

-- What a tenant's chunks add up to, those of unfinished uploads included: its row is what
-- concurrent uploads meet at, so that together they stay below the limit.
CREATE TABLE artifact_usage (
    size_bytes bigint NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    CONSTRAINT artifact_usage_pkey PRIMARY KEY (tenant_id),
    CONSTRAINT artifact_usage_is_not_negative CHECK (size_bytes >= 0)
);

-- Whether a digest is named by an attempt.
CREATE INDEX artifacts_naming ON artifacts (tenant_id, digest) WHERE digest IS NOT NULL;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['artifact_contents', 'artifact_chunks', 'artifact_usage'] LOOP
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

-- An upload is for one tenant, so it is written as the role that sees this tenant alone. The sweep
-- is for all of them, and takes only away.
GRANT SELECT, INSERT, UPDATE, DELETE ON artifact_contents TO jobengine_api;
GRANT SELECT, INSERT, DELETE ON artifact_chunks TO jobengine_api;
GRANT SELECT, INSERT, UPDATE ON artifact_usage TO jobengine_api;
GRANT SELECT, DELETE ON artifact_contents, artifact_chunks TO jobengine_ledger;
GRANT SELECT, UPDATE ON artifact_usage TO jobengine_ledger;
GRANT EXECUTE ON FUNCTION commit_guard(bigint, bigint, text) TO jobengine_api;
