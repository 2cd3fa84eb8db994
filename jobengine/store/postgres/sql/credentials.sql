-- API keys and revoked tokens. What changes them travels in commit_all.

-- name: api_key_list
-- purpose: a tenant's API keys, newest first
-- rows: up to keys_max, by (created_at, prefix) descending
-- index: api_keys_newest
-- locks: none
-- parameters: tenant_id text, before_at bigint, before_prefix text, keys_max bigint
SELECT
    tenant_id, prefix, digest, label, scopes, created_at, created_by, expires_at, revoked_at,
    last_used_day_at
FROM api_keys
WHERE tenant_id = %(tenant_id)s AND (created_at, prefix) < (%(before_at)s, %(before_prefix)s)
ORDER BY created_at DESC, prefix DESC
LIMIT %(keys_max)s;

-- name: api_key_by_prefix
-- purpose: one API key of a tenant
-- rows: 0 or 1
-- index: api_keys_prefix_is_one_keys or api_keys_pkey, one row in either
-- locks: none
-- parameters: tenant_id text, prefix text
SELECT
    tenant_id, prefix, digest, label, scopes, created_at, created_by, expires_at, revoked_at,
    last_used_day_at
FROM api_keys
WHERE tenant_id = %(tenant_id)s AND prefix = %(prefix)s;

-- name: credentials_after
-- purpose: API keys and revocations of every tenant that have changed after a position
-- rows: up to rows_max of both, by position; a revocation has no digest
-- index: api_keys_changed, token_revocations_changed
-- locks: none
-- parameters: after bigint, rows_max bigint
(
    SELECT
        position, tenant_id, prefix, digest, label, scopes, created_at, created_by, expires_at,
        revoked_at, last_used_day_at
    FROM api_keys
    WHERE position > %(after)s
    ORDER BY position
    LIMIT %(rows_max)s
)
UNION ALL
(
    SELECT
        position, tenant_id, token_id, NULL, '', '{}', at, '', until_at, NULL, NULL
    FROM token_revocations
    WHERE position > %(after)s
    ORDER BY position
    LIMIT %(rows_max)s
)
ORDER BY 1
LIMIT %(rows_max)s;

-- name: api_key_uses
-- purpose: note the days on which API keys were used last; no change of the keys themselves
-- rows: none
-- index: api_keys_prefix_is_one_keys or api_keys_pkey, one row a name in either
-- locks: the rows named
-- parameters: tenant_ids text[], prefixes text[], days_at bigint[]
UPDATE api_keys k
SET last_used_day_at = greatest(k.last_used_day_at, u.day_at)
FROM unnest(%(tenant_ids)s::text[], %(prefixes)s::text[], %(days_at)s::bigint[])
    AS u(tenant_id, prefix, day_at)
WHERE k.tenant_id = u.tenant_id AND k.prefix = u.prefix;

-- name: drop_revocations
-- purpose: forget revocations of tokens that have expired by an instant
-- rows: none
-- index: token_revocations_over
-- locks: the rows removed
-- parameters: before_at bigint
DELETE FROM token_revocations
WHERE until_at <= %(before_at)s;
