-- Webhooks. What changes one travels in commit_all.

-- name: webhook_by_id
-- purpose: one webhook of a tenant
-- rows: 0 or 1
-- index: webhooks_pkey
-- locks: none
-- parameters: tenant_id text, webhook_id text
SELECT
    tenant_id, webhook_id, url, types, description, wrapping, secret, state, reason,
    begins_after_seq, created_at, created_by, changed_at, revision
FROM webhooks
WHERE tenant_id = %(tenant_id)s AND webhook_id = %(webhook_id)s;

-- name: webhook_list
-- purpose: a tenant's webhooks, newest first
-- rows: up to webhooks_max, by id descending
-- index: webhooks_pkey
-- locks: none
-- parameters: tenant_id text, before_id text, webhooks_max bigint
SELECT
    tenant_id, webhook_id, url, types, description, wrapping, secret, state, reason,
    begins_after_seq, created_at, created_by, changed_at, revision
FROM webhooks
WHERE tenant_id = %(tenant_id)s AND webhook_id < %(before_id)s
ORDER BY webhook_id DESC
LIMIT %(webhooks_max)s;

-- name: webhooks_of_all
-- purpose: webhooks of every tenant, after a tenant and id
-- rows: up to webhooks_max, by tenant and id
-- index: webhooks_pkey
-- locks: none
-- parameters: after_tenant text, after_id text, webhooks_max bigint
SELECT
    tenant_id, webhook_id, url, types, description, wrapping, secret, state, reason,
    begins_after_seq, created_at, created_by, changed_at, revision
FROM webhooks
WHERE (tenant_id, webhook_id) > (%(after_tenant)s, %(after_id)s)
ORDER BY tenant_id, webhook_id
LIMIT %(webhooks_max)s;
