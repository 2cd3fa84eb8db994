-- Redrives of dead letters, and the counts by which one is chosen. What changes a redrive travels in
-- commit_all.

-- name: redrive_list
-- purpose: a tenant's redrives, newest first
-- rows: up to redrives_max, by id descending
-- index: redrives_pkey
-- locks: none
-- parameters: tenant_id text, before_id text, redrives_max bigint
SELECT
    tenant_id, redrive_id, definition, state, replayed, failed, after_at, after_id, last_error,
    changed_at
FROM redrives
WHERE tenant_id = %(tenant_id)s AND redrive_id < %(before_id)s
ORDER BY redrive_id DESC
LIMIT %(redrives_max)s;

-- name: redrive_by_id
-- purpose: one redrive of a tenant
-- rows: 0 or 1
-- index: redrives_pkey
-- locks: none
-- parameters: tenant_id text, redrive_id text
SELECT
    tenant_id, redrive_id, definition, state, replayed, failed, after_at, after_id, last_error,
    changed_at
FROM redrives
WHERE tenant_id = %(tenant_id)s AND redrive_id = %(redrive_id)s;

-- name: redrives_unfinished
-- purpose: redrives of every tenant that run or are paused
-- rows: up to redrives_max, by tenant and id
-- index: redrives_unfinished
-- locks: none
-- parameters: after_tenant text, after_id text, redrives_max bigint
SELECT
    tenant_id, redrive_id, definition, state, replayed, failed, after_at, after_id, last_error,
    changed_at
FROM redrives
WHERE state IN ('running', 'paused') AND (tenant_id, redrive_id) > (%(after_tenant)s, %(after_id)s)
ORDER BY tenant_id, redrive_id
LIMIT %(redrives_max)s;

-- name: dead_letter_groups
-- purpose: how many dead letters there are of a kind, among a tenant's newest letters_max
-- rows: by dimension, then most letters first: one for 'all' (also when there is none), and up to
--   groups_max for each of state, class, job_type, queue and signature; the letters looked at, the
--   dimension, the kind, letters, open ones, first and last instant, and of a signature its newest
-- index: dead_letters_newest
-- locks: none
-- parameters: tenant_id text, letters_max bigint, groups_max bigint, states text[], job_type text,
--   queue text, class text, signature text
WITH seen AS MATERIALIZED (
    SELECT
        dead_letter_id, at, state, coalesce(class, '') AS class, job_type, queue,
        coalesce(signature, '') AS signature
    FROM dead_letters
    WHERE tenant_id = %(tenant_id)s
    ORDER BY at DESC, dead_letter_id DESC
    LIMIT %(letters_max)s
),
matching AS MATERIALIZED (
    SELECT *
    FROM seen
    WHERE (%(states)s::text[] IS NULL OR state = ANY (%(states)s))
      AND (%(job_type)s::text IS NULL OR job_type = %(job_type)s)
      AND (%(queue)s::text IS NULL OR queue = %(queue)s)
      AND (%(class)s::text IS NULL OR class = %(class)s)
      AND (%(signature)s::text IS NULL OR signature = %(signature)s)
),
grouped AS (
    SELECT
        CASE
            WHEN grouping(state) = 0 THEN 'state'
            WHEN grouping(class) = 0 THEN 'class'
            WHEN grouping(job_type) = 0 THEN 'job_type'
            WHEN grouping(queue) = 0 THEN 'queue'
            WHEN grouping(signature) = 0 THEN 'signature'
            ELSE 'all'
        END AS dimension,
        coalesce(state, class, job_type, queue, signature, '') AS value,
        count(*) AS letters, count(*) FILTER (WHERE state = 'open') AS open,
        min(at) AS first_at, max(at) AS last_at
    FROM matching
    GROUP BY GROUPING SETS ((), (state), (class), (job_type), (queue), (signature))
),
ranked AS (
    SELECT *, row_number() OVER (PARTITION BY dimension ORDER BY letters DESC, value) AS place
    FROM grouped
),
newest AS (
    SELECT DISTINCT ON (signature) signature, dead_letter_id
    FROM matching
    ORDER BY signature, at DESC, dead_letter_id DESC
)
SELECT
    (SELECT count(*) FROM seen), r.dimension, r.value, r.letters, r.open, r.first_at, r.last_at,
    n.dead_letter_id
FROM ranked r
LEFT JOIN newest n ON r.dimension = 'signature' AND n.signature = r.value
WHERE r.place <= %(groups_max)s
ORDER BY r.dimension, r.place;

-- name: dead_letter_groups_open
-- purpose: as dead_letter_groups, for those under review alone: resolved ones are not looked at
-- rows: as dead_letter_groups
-- index: dead_letters_open
-- locks: none
-- parameters: tenant_id text, letters_max bigint, groups_max bigint, job_type text, queue text,
--   class text, signature text
WITH seen AS MATERIALIZED (
    SELECT
        dead_letter_id, at, state, coalesce(class, '') AS class, job_type, queue,
        coalesce(signature, '') AS signature
    FROM dead_letters
    WHERE tenant_id = %(tenant_id)s AND state = 'open'
    ORDER BY at DESC, dead_letter_id DESC
    LIMIT %(letters_max)s
),
matching AS MATERIALIZED (
    SELECT *
    FROM seen
    WHERE (%(job_type)s::text IS NULL OR job_type = %(job_type)s)
      AND (%(queue)s::text IS NULL OR queue = %(queue)s)
      AND (%(class)s::text IS NULL OR class = %(class)s)
      AND (%(signature)s::text IS NULL OR signature = %(signature)s)
),
grouped AS (
    SELECT
        CASE
            WHEN grouping(state) = 0 THEN 'state'
            WHEN grouping(class) = 0 THEN 'class'
            WHEN grouping(job_type) = 0 THEN 'job_type'
            WHEN grouping(queue) = 0 THEN 'queue'
            WHEN grouping(signature) = 0 THEN 'signature'
            ELSE 'all'
        END AS dimension,
        coalesce(state, class, job_type, queue, signature, '') AS value,
        count(*) AS letters, count(*) AS open,
        min(at) AS first_at, max(at) AS last_at
    FROM matching
    GROUP BY GROUPING SETS ((), (state), (class), (job_type), (queue), (signature))
),
ranked AS (
    SELECT *, row_number() OVER (PARTITION BY dimension ORDER BY letters DESC, value) AS place
    FROM grouped
),
newest AS (
    SELECT DISTINCT ON (signature) signature, dead_letter_id
    FROM matching
    ORDER BY signature, at DESC, dead_letter_id DESC
)
SELECT
    (SELECT count(*) FROM seen), r.dimension, r.value, r.letters, r.open, r.first_at, r.last_at,
    n.dead_letter_id
FROM ranked r
LEFT JOIN newest n ON r.dimension = 'signature' AND n.signature = r.value
WHERE r.place <= %(groups_max)s
ORDER BY r.dimension, r.place;
