-- The ledger read forward.

-- name: ledger_heads
-- purpose: where ledgers stand
-- rows: one for each tenant that has any entry, in no order
-- index: ledger_heads_pkey
-- locks: none
-- parameters: tenant_ids text[]
SELECT wanted.tenant_id, head.next_seq, head.link
FROM unnest(%(tenant_ids)s::text[]) AS wanted(tenant_id)
CROSS JOIN LATERAL (
    SELECT next_seq, link
    FROM ledger_heads
    WHERE tenant_id = wanted.tenant_id
    ORDER BY next_seq DESC
    LIMIT 1
) head;

-- name: ledger_blocks_holding
-- purpose: the blocks that hold these sequence numbers
-- rows: one a block, by sequence
-- index: ledger_blocks_pkey of each day, once a sequence number
-- locks: none
-- parameters: tenant_id text, seqs bigint[]
SELECT b.first_seq, b.last_seq, b.at, b.previous, b.link, b.body_bytes, b.body
FROM (
    SELECT DISTINCT nearest.last_seq, nearest.at
    FROM unnest(%(seqs)s::bigint[]) AS wanted(seq)
    CROSS JOIN LATERAL (
        SELECT first_seq, last_seq, at
        FROM ledger_blocks
        WHERE tenant_id = %(tenant_id)s AND last_seq >= wanted.seq
        ORDER BY last_seq
        LIMIT 1
    ) nearest
    WHERE nearest.first_seq <= wanted.seq
) holding
JOIN ledger_blocks b
    ON b.tenant_id = %(tenant_id)s AND b.last_seq = holding.last_seq AND b.at = holding.at
ORDER BY b.last_seq;

-- name: ledger_blocks_after
-- purpose: the blocks that end after a sequence number
-- rows: up to blocks_max, by sequence; fewer where their bodies exceed bytes_max together, but one
--   in any case
-- index: ledger_blocks_pkey of each day
-- locks: none
-- parameters: tenant_id text, after_seq bigint, blocks_max bigint, bytes_max bigint
SELECT first_seq, last_seq, at, previous, link, body_bytes, body
FROM (
    SELECT
        following.*,
        row_number() OVER so_far AS place,
        sum(body_bytes) OVER so_far AS bytes
    FROM (
        SELECT first_seq, last_seq, at, previous, link, body_bytes, body
        FROM ledger_blocks
        WHERE tenant_id = %(tenant_id)s AND last_seq > %(after_seq)s
        ORDER BY last_seq
        LIMIT %(blocks_max)s
    ) following
    WINDOW so_far AS (ORDER BY last_seq ROWS UNBOUNDED PRECEDING)
) bounded
WHERE place = 1 OR bytes <= %(bytes_max)s
ORDER BY last_seq;
