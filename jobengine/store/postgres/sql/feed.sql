-- Cursors of feeds: how far consumers of the tenants' events have come.

-- name: feed_cursors_of_tenant
-- purpose: where feeds stand in a tenant
-- rows: one for each cursor that exists, in no order
-- index: feed_cursors_pkey
-- locks: none
-- parameters: tenant_id text, feeds text[]
SELECT tenant_id, feed, seq, note, at
FROM feed_cursors
WHERE tenant_id = %(tenant_id)s AND feed = ANY (%(feeds)s);

-- name: move_feed_cursors
-- purpose: write cursors, each of which stays where it is when it is further on already
-- rows: none
-- index: feed_cursors_pkey
-- locks: the rows named, in the order of their key
-- parameters: tenant_ids text[], feeds text[], seqs bigint[], notes text[], ats bigint[]
INSERT INTO feed_cursors AS c (tenant_id, feed, seq, note, at)
SELECT tenant_id, feed, seq, note::json, at
FROM unnest(
    %(tenant_ids)s::text[], %(feeds)s::text[], %(seqs)s::bigint[], %(notes)s::text[],
    %(ats)s::bigint[]
) AS moved(tenant_id, feed, seq, note, at)
ORDER BY tenant_id COLLATE "C", feed COLLATE "C"
ON CONFLICT (tenant_id, feed) DO UPDATE
SET seq = excluded.seq, note = excluded.note, at = excluded.at
WHERE excluded.seq >= c.seq;

-- name: feeds_behind
-- purpose: tenants whose ledger goes on behind the cursor of a feed, after a tenant
-- rows: up to tenants_max, by tenant
-- index: ledgers_pkey, ledger_heads_pkey, feed_cursors_pkey
-- locks: none
-- parameters: feed text, after_tenant text, tenants_max bigint
SELECT l.tenant_id, coalesce(c.seq, 0), head.next_seq - 1
FROM ledgers l
CROSS JOIN LATERAL (
    SELECT next_seq
    FROM ledger_heads
    WHERE tenant_id = l.tenant_id
    ORDER BY next_seq DESC
    LIMIT 1
) head
LEFT JOIN feed_cursors c ON c.tenant_id = l.tenant_id AND c.feed = %(feed)s
WHERE l.tenant_id > %(after_tenant)s AND coalesce(c.seq, 0) < head.next_seq - 1
ORDER BY l.tenant_id
LIMIT %(tenants_max)s;

-- name: forget_feed
-- purpose: drop the cursor of a feed in a tenant
-- rows: none
-- index: feed_cursors_pkey
-- locks: the row
-- parameters: tenant_id text, feed text
DELETE FROM feed_cursors
WHERE tenant_id = %(tenant_id)s AND feed = %(feed)s;
