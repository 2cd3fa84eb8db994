-- The bytes of artifacts. All but the sweep run as jobengine_api, for the tenant of the transaction.

-- name: artifact_begin
-- purpose: make the place of an upload
-- rows: none
-- index: artifact_contents_pkey
-- locks: none
-- parameters: tenant_id text, content_id uuid, mime text, now_at bigint
INSERT INTO artifact_contents (tenant_id, content_id, mime, stored_at, touched_at)
VALUES (%(tenant_id)s, %(content_id)s, %(mime)s, %(now_at)s, %(now_at)s);

-- name: artifact_put
-- purpose: add the next chunk of an upload, if the tenant has room for it
-- rows: 1, whether it had; JE003 when the upload has gone
-- index: artifact_usage_pkey, artifact_contents_pkey, artifact_chunks_pkey
-- locks: the tenant's usage, then the upload
-- parameters: tenant_id text, content_id uuid, number integer, chunk bytea, tenant_bytes_max bigint,
--   now_at bigint
WITH
paid AS (
    INSERT INTO artifact_usage AS u (tenant_id, size_bytes)
    SELECT %(tenant_id)s::text, octet_length(%(chunk)s::bytea)
    WHERE octet_length(%(chunk)s) <= %(tenant_bytes_max)s::bigint
    ON CONFLICT (tenant_id) DO UPDATE
    SET size_bytes = u.size_bytes + excluded.size_bytes
    WHERE u.size_bytes + excluded.size_bytes <= %(tenant_bytes_max)s
    RETURNING 1
),
touched AS (
    UPDATE artifact_contents
    SET size_bytes = size_bytes + octet_length(%(chunk)s), touched_at = %(now_at)s
    WHERE tenant_id = %(tenant_id)s AND content_id = %(content_id)s AND digest IS NULL
      AND EXISTS (SELECT FROM paid)
    RETURNING tenant_id, content_id
),
added AS (
    INSERT INTO artifact_chunks (tenant_id, content_id, number, chunk)
    SELECT tenant_id, content_id, %(number)s, %(chunk)s FROM touched
)
SELECT
    commit_guard((SELECT count(*) FROM touched), (SELECT count(*) FROM paid), 'JE003')
    AND EXISTS (SELECT FROM paid);

-- name: artifact_finish
-- purpose: give an upload its digest; where the tenant has these bytes already, drop the upload
-- rows: 1, the bytes under that digest and whether they are new; 0 when the upload has gone
-- index: artifact_contents_digest_is_one_contents, artifact_contents_pkey, artifact_chunks_pkey,
--   artifact_usage_pkey
-- locks: both contents, then the tenant's usage
-- parameters: tenant_id text, content_id uuid, digest text, now_at bigint
WITH
found AS (
    UPDATE artifact_contents
    SET touched_at = greatest(touched_at, %(now_at)s)
    WHERE tenant_id = %(tenant_id)s AND digest = %(digest)s AND content_id <> %(content_id)s
    RETURNING content_id, digest, mime, size_bytes, stored_at
),
dropped AS (
    DELETE FROM artifact_contents
    WHERE tenant_id = %(tenant_id)s AND content_id = %(content_id)s AND EXISTS (SELECT FROM found)
    RETURNING size_bytes
),
chunk_dropped AS (
    DELETE FROM artifact_chunks
    WHERE tenant_id = %(tenant_id)s AND content_id = %(content_id)s AND EXISTS (SELECT FROM found)
),
freed AS (
    UPDATE artifact_usage u
    SET size_bytes = u.size_bytes - d.size_bytes
    FROM dropped d
    WHERE u.tenant_id = %(tenant_id)s
),
finished AS (
    UPDATE artifact_contents
    SET digest = %(digest)s, stored_at = %(now_at)s, touched_at = %(now_at)s
    WHERE tenant_id = %(tenant_id)s AND content_id = %(content_id)s AND digest IS NULL
      AND NOT EXISTS (SELECT FROM found)
    RETURNING content_id, digest, mime, size_bytes, stored_at
)
SELECT false, content_id, digest, mime, size_bytes, stored_at FROM found
UNION ALL
SELECT true, content_id, digest, mime, size_bytes, stored_at FROM finished;

-- name: artifact_discard
-- purpose: drop an upload that has no digest yet, with its chunks
-- rows: none
-- index: artifact_contents_pkey, artifact_chunks_pkey, artifact_usage_pkey
-- locks: the upload, then the tenant's usage
-- parameters: tenant_id text, content_id uuid
WITH
dropped AS (
    DELETE FROM artifact_contents
    WHERE tenant_id = %(tenant_id)s AND content_id = %(content_id)s AND digest IS NULL
    RETURNING tenant_id, content_id, size_bytes
),
chunk_dropped AS (
    DELETE FROM artifact_chunks k
    USING dropped d
    WHERE k.tenant_id = d.tenant_id AND k.content_id = d.content_id
)
UPDATE artifact_usage u
SET size_bytes = u.size_bytes - d.size_bytes
FROM dropped d
WHERE u.tenant_id = d.tenant_id;

-- name: artifact_content
-- purpose: what a tenant has under a digest
-- rows: 0 or 1
-- index: artifact_contents_digest_is_one_contents
-- locks: none
-- parameters: tenant_id text, digest text
SELECT content_id, digest, mime, size_bytes, stored_at
FROM artifact_contents
WHERE tenant_id = %(tenant_id)s AND digest = %(digest)s;

-- name: artifact_chunk
-- purpose: one chunk of a content
-- rows: 0 or 1
-- index: artifact_chunks_pkey
-- locks: none
-- parameters: tenant_id text, content_id uuid, number integer
SELECT chunk
FROM artifact_chunks
WHERE tenant_id = %(tenant_id)s AND content_id = %(content_id)s AND number = %(number)s;

-- name: artifact_usage
-- purpose: what a tenant's chunks add up to, in bytes
-- rows: 0 or 1
-- index: artifact_usage_pkey
-- locks: none
-- parameters: tenant_id text
SELECT size_bytes
FROM artifact_usage
WHERE tenant_id = %(tenant_id)s;

-- name: artifact_sweep
-- purpose: of the next contents untouched for long, across tenants, remove those nobody names and
--   uploads nobody finishes
-- rows: 1: how many were removed, how many were looked at, and the last one of these
-- index: artifact_contents_untouched, artifacts_naming, artifact_contents_pkey,
--   artifact_chunks_pkey, artifact_usage_pkey
-- locks: the contents removed, then the usage of their tenants
-- parameters: after_at bigint, after_tenant text, after_id uuid, unnamed_before_at bigint,
--   unfinished_before_at bigint, contents_max bigint
WITH
looked AS MATERIALIZED (
    SELECT touched_at, tenant_id, content_id
    FROM artifact_contents
    WHERE (touched_at, tenant_id, content_id)
        > (%(after_at)s, %(after_tenant)s::text, %(after_id)s::uuid)
      AND touched_at < greatest(%(unnamed_before_at)s::bigint, %(unfinished_before_at)s::bigint)
    ORDER BY touched_at, tenant_id, content_id
    LIMIT %(contents_max)s
),
removed AS (
    DELETE FROM artifact_contents c
    USING looked l
    WHERE c.tenant_id = l.tenant_id AND c.content_id = l.content_id
      AND c.touched_at = l.touched_at
      AND CASE
          WHEN c.digest IS NULL THEN c.touched_at < %(unfinished_before_at)s
          ELSE c.touched_at < %(unnamed_before_at)s AND NOT EXISTS (
              SELECT FROM artifacts a WHERE a.tenant_id = c.tenant_id AND a.digest = c.digest
          )
      END
    RETURNING c.tenant_id, c.content_id, c.size_bytes
),
chunk_removed AS (
    DELETE FROM artifact_chunks k
    USING removed r
    WHERE k.tenant_id = r.tenant_id AND k.content_id = r.content_id
),
freed AS (
    UPDATE artifact_usage u
    SET size_bytes = u.size_bytes - r.size_bytes
    FROM (
        SELECT tenant_id, sum(size_bytes)::bigint AS size_bytes FROM removed GROUP BY tenant_id
    ) r
    WHERE u.tenant_id = r.tenant_id
)
SELECT
    (SELECT count(*) FROM removed),
    (SELECT count(*) FROM looked),
    last.touched_at, last.tenant_id, last.content_id
FROM (VALUES (1)) AS always
LEFT JOIN (
    SELECT * FROM looked ORDER BY touched_at DESC, tenant_id DESC, content_id DESC LIMIT 1
) AS last ON true;
