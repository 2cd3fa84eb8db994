-- What hangs on jobs: dead letters, artifacts, logs.

-- name: dead_letter_list
-- purpose: dead letters of a tenant that match a filter, newest first
-- rows: up to letters_max, by (at, id) descending
-- index: dead_letters_newest
-- locks: none
-- parameters: tenant_id text, before_at bigint, before_id text, letters_max bigint, states text[],
--   job_type text, queue text, class text, signature text
SELECT
    tenant_id, dead_letter_id, job_id, state, replayed_as, job_type, queue, class, signature,
    error, attempts, worker_id, at
FROM dead_letters
WHERE tenant_id = %(tenant_id)s AND (at, dead_letter_id) < (%(before_at)s, %(before_id)s)
  AND (%(states)s::text[] IS NULL OR state = ANY (%(states)s))
  AND (%(job_type)s::text IS NULL OR job_type = %(job_type)s)
  AND (%(queue)s::text IS NULL OR queue = %(queue)s)
  AND (%(class)s::text IS NULL OR class = %(class)s)
  AND (%(signature)s::text IS NULL OR signature = %(signature)s)
ORDER BY at DESC, dead_letter_id DESC
LIMIT %(letters_max)s;

-- name: dead_letter_list_open
-- purpose: as dead_letter_list, for those under review alone: resolved ones are not looked at
-- rows: as dead_letter_list
-- index: dead_letters_open
-- locks: none
-- parameters: tenant_id text, before_at bigint, before_id text, letters_max bigint, job_type text,
--   queue text, class text, signature text
SELECT
    tenant_id, dead_letter_id, job_id, state, replayed_as, job_type, queue, class, signature,
    error, attempts, worker_id, at
FROM dead_letters
WHERE tenant_id = %(tenant_id)s AND (at, dead_letter_id) < (%(before_at)s, %(before_id)s)
  AND state = 'open'
  AND (%(job_type)s::text IS NULL OR job_type = %(job_type)s)
  AND (%(queue)s::text IS NULL OR queue = %(queue)s)
  AND (%(class)s::text IS NULL OR class = %(class)s)
  AND (%(signature)s::text IS NULL OR signature = %(signature)s)
ORDER BY at DESC, dead_letter_id DESC
LIMIT %(letters_max)s;

-- name: dead_letter_by_id
-- purpose: one dead letter
-- rows: 0 or 1
-- index: dead_letters_pkey
-- locks: none
-- parameters: tenant_id text, dead_letter_id text
SELECT
    tenant_id, dead_letter_id, job_id, state, replayed_as, job_type, queue, class, signature,
    error, attempts, worker_id, at
FROM dead_letters
WHERE tenant_id = %(tenant_id)s AND dead_letter_id = %(dead_letter_id)s;

-- name: dead_letter_states
-- purpose: which of these dead letters are in another state than expected, after a stale commit
-- rows: one for each that is not in its expected state or does not exist
-- index: dead_letters_pkey
-- locks: none
-- parameters: tenant_id text, dead_letter_ids text[], states text[]
SELECT expected.dead_letter_id
FROM unnest(%(dead_letter_ids)s::text[], %(states)s::text[]) AS expected(dead_letter_id, state)
LEFT JOIN dead_letters l
    ON l.tenant_id = %(tenant_id)s AND l.dead_letter_id = expected.dead_letter_id
WHERE l.state IS DISTINCT FROM expected.state
ORDER BY expected.dead_letter_id;

-- name: artifacts_of_job
-- purpose: the artifacts that attempts of a job have named
-- rows: one an artifact, by (attempt, at, name)
-- index: artifacts_pkey
-- locks: none
-- parameters: tenant_id text, job_id uuid
SELECT attempt, name, uri, digest, mime, size_bytes, at
FROM artifacts
WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s
ORDER BY attempt, at, name;

-- name: logs_of_job
-- purpose: stored log lines of a job
-- rows: up to rows_max, by position; none behind the one whose lines reach bytes_max
-- index: job_logs_pkey of each day
-- locks: none
-- parameters: tenant_id text, job_id uuid, place bigint, rows_max bigint, bytes_max bigint
SELECT position, attempt, at, lines
FROM (
    SELECT
        following.*,
        sum(bytes) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) - bytes AS bytes_before
    FROM (
        SELECT position, attempt, at, lines, octet_length(lines::text) AS bytes
        FROM job_logs
        WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s AND position > %(place)s
        ORDER BY position
        LIMIT %(rows_max)s
    ) following
) bounded
WHERE bytes_before < %(bytes_max)s
ORDER BY position;

-- name: log_rows_stored
-- purpose: which rows of logs are there already, when a commit is sent that may have taken effect
-- rows: one a stored row of these jobs at one of these instants; each job once
-- index: job_logs_pkey of the days of the instants
-- locks: none
-- parameters: tenant_ids text[], job_ids uuid[], ats bigint[]
SELECT job.tenant_id, job.job_id, stored.attempt, stored.at, stored.lines
FROM unnest(%(tenant_ids)s::text[], %(job_ids)s::uuid[]) AS job(tenant_id, job_id)
CROSS JOIN LATERAL (
    SELECT attempt, at, lines
    FROM job_logs l
    WHERE l.tenant_id = job.tenant_id AND l.job_id = job.job_id AND l.at = ANY (%(ats)s::bigint[])
    OFFSET 0
) stored;

-- name: logs_of_job_back
-- purpose: the newest stored log lines of a job, going back
-- rows: up to rows_max, by position descending, ending with the one that reaches bytes_max
-- index: job_logs_pkey of each day
-- locks: none
-- parameters: tenant_id text, job_id uuid, place bigint, rows_max bigint, bytes_max bigint
SELECT position, attempt, at, lines
FROM (
    SELECT
        preceding.*,
        sum(bytes) OVER (ORDER BY position DESC ROWS UNBOUNDED PRECEDING) - bytes AS bytes_before
    FROM (
        SELECT position, attempt, at, lines, octet_length(lines::text) AS bytes
        FROM job_logs
        WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s AND position < %(place)s
        ORDER BY position DESC
        LIMIT %(rows_max)s
    ) preceding
) bounded
WHERE bytes_before < %(bytes_max)s
ORDER BY position DESC;
