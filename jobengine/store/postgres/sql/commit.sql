-- The one transaction that changes anything, as one statement. Ledgers begin and heads advance first,
-- in the order of the tenants' ids, and nothing else is touched unless each was where the batch says.
-- So of two writers of one tenant the second waits there and then fails, and writers of different
-- tenants never wait for each other.
--
-- created and changed hold groups of job rows, which share what stands in the group; what each row
-- says for itself is in the lanes that jobengine/store/postgres/columns.py describes: element
-- lane + k of ids or numbers is of the group's k-th row, a lane that is null is not there, and the
-- least bigint stands for null. Documents of jobs are octets from the place in their lane to the
-- next one. leases holds an object for each instant at which jobs were granted that this commit
-- grants or ends: {t tenant, s shard, at, n granted now, e ended now, i where the ids of those
-- granted begin, b begins, w workers, tr task runners}. The other parameters hold their own rows, under the short names of
-- jobengine/domain/change.py. blocks holds {t tenant, f first seq, l last seq, at, o offset,
-- n octets of the stored body, z octets of the body}; octets holds at that offset the previous
-- link, the link, and the stored body. unique_keys says besides (h) which holders may be replaced,
-- and (at) from when a window is over; one row for a key at most.
--
-- An answer that is there is the first one to its request, and stays: a commit without blocks may be
-- sent again after it took effect. The log lines of such a one are left out before (log_rows_stored).
--
-- Heads and rows of jobs, waiting and leases are found one by one (LATERAL, OFFSET 0) and changed where they
-- stand: tables are often empty, and a join planned then, and kept, would go through all of a table
-- for each changed job once it is full. A job that goes on waiting leaves and enters again. Rows of
-- runs, registry and webhooks are found in this way too.
--
-- A commit's fixed cost grows with what its statement could do, so there are several: commit_created
-- and commit_changed for jobs that are created and start at once, or start no more; commit_moved for
-- both; commit_jobs for these and for jobs that wait, states of gates, and tenants without a ledger;
-- commit_all for everything.

-- name: commit_created, commit_changed, commit_moved, commit_jobs, commit_all
-- purpose: advance heads, add blocks, create and change jobs, with waiting, leases and the states
--   of gates to match; dead letters, artifacts, logs, unique keys, answers and credentials, redrives
--   and controls, runs with their parts, registered documents, and webhooks
-- rows: 1, true; or JE001 (a head has moved), JE002 (a job, dead letter or run is not in its
--   from-state)
-- index: ledgers_pkey, ledger_heads_pkey, jobs_pkey, waiting_pkey, leases_pkey, dead_letters_pkey,
--   artifacts_pkey, unique_keys_pkey, idempotency_answers_pkey, api_keys_pkey,
--   token_revocations_pkey, redrives_pkey,
--   gate_states_pkey, controls_pkey, runs_pkey, run_parts_pkey, registry_pkey,
--   webhooks_pkey
-- locks: rows of the batch: heads first, then jobs, each in the order of the batch, then those of
--   the other kinds
-- parameters: batch_id text, blocks json, octets bytea, created json, changed json,
--   ids uuid[], numbers bigint[], leases json, dead_letters json, artifacts json, logs json,
--   unique_keys json, answers json, api_keys json, revocations json, redrives json,
--   gate_states json, controls json, runs json, run_parts json,
--   registry json, webhooks_made json, webhooks_changed json
WITH
block AS MATERIALIZED (
    SELECT
        t AS tenant_id, f AS first_seq, l AS last_seq, at, z AS body_bytes,
        substr(%(octets)s::bytea, o + 1, 32) AS previous,
        substr(%(octets)s::bytea, o + 33, 32) AS link,
        substr(%(octets)s::bytea, o + 65, n) AS body
    FROM json_to_recordset(%(blocks)s::json)
        AS b(t text, f bigint, l bigint, at bigint, o integer, n integer, z integer)
),
-- in: commit_jobs, commit_all
ledger_begun AS (
    INSERT INTO ledgers (tenant_id)
    SELECT tenant_id
    FROM block
    WHERE first_seq = 1 AND previous = decode(repeat('00', 32), 'hex')
    ON CONFLICT DO NOTHING
    RETURNING 1
),
-- end
head_moved AS (
    UPDATE ledger_heads h
    SET next_seq = b.last_seq + 1, link = b.link, batch_id = %(batch_id)s
    FROM (
        SELECT block.last_seq, block.link, found.place
        FROM block
        CROSS JOIN LATERAL (
            SELECT e.ctid AS place
            FROM ledger_heads e
            WHERE e.tenant_id = block.tenant_id AND e.next_seq = block.first_seq
              AND e.link = block.previous
            OFFSET 0
        ) found
        WHERE block.first_seq > 1
    ) b
    WHERE h.ctid = b.place
    RETURNING 1
),
fence AS MATERIALIZED (
    SELECT commit_guard(
        -- in: commit_jobs, commit_all
        (SELECT count(*) FROM ledger_begun) +
        -- end
        (SELECT count(*) FROM head_moved),
        (SELECT count(*) FROM block),
        'JE001'
    ) AS held
),
-- in: commit_created, commit_moved, commit_jobs, commit_all
created AS MATERIALIZED (
    SELECT *
    FROM json_to_recordset(%(created)s::json) AS r(
        t text, s smallint, st text, f text, re text, a integer, fa integer, cr integer, cz text,
        dl boolean, qu text, jt text, pr text, rn text, so text,
        n integer, i integer, q integer, du integer, sc integer, sa integer, fi integer,
        ca integer, rk integer, ex integer, c integer, d integer, p integer, rs integer,
        er integer, pg integer
    )
    WHERE (SELECT held FROM fence)
),
-- end
-- in: commit_changed, commit_moved, commit_jobs, commit_all
changed AS MATERIALIZED (
    SELECT *
    FROM json_to_recordset(%(changed)s::json) AS r(
        t text, s smallint, st text, f text, re text, a integer, fa integer, cr integer, cz text,
        dl boolean, qu text, jt text, pr text, rn text, so text,
        n integer, i integer, q integer, du integer, sc integer, sa integer, fi integer,
        ca integer, rk integer, ex integer, c integer, d integer, p integer, rs integer,
        er integer, pg integer
    )
    WHERE (SELECT held FROM fence)
),
job_changed AS (
    UPDATE jobs j
    SET state = st, reason = re, attempt = a, failures = fa, crashes = cr,
        due_at = (%(numbers)s::bigint[])[du + k],
        scheduled_at = nullif((%(numbers)s::bigint[])[sc + k], -9223372036854775808),
        started_at = nullif((%(numbers)s::bigint[])[sa + k], -9223372036854775808),
        finished_at = nullif((%(numbers)s::bigint[])[fi + k], -9223372036854775808),
        cancel_requested_at = nullif((%(numbers)s::bigint[])[ca + k], -9223372036854775808),
        cancel_reason = cz,
        result = CASE WHEN rs IS NULL THEN result ELSE coalesce(nullif(convert_from(substr(
            %(octets)s, (%(numbers)s::bigint[])[rs + k]::integer + 1,
            ((%(numbers)s::bigint[])[rs + k + 1] - (%(numbers)s::bigint[])[rs + k])::integer
        ), 'UTF8'), '')::json, result) END,
        error = CASE WHEN er IS NULL THEN error ELSE coalesce(nullif(convert_from(substr(
            %(octets)s, (%(numbers)s::bigint[])[er + k]::integer + 1,
            ((%(numbers)s::bigint[])[er + k + 1] - (%(numbers)s::bigint[])[er + k])::integer
        ), 'UTF8'), '')::json, error) END,
        progress = CASE WHEN pg IS NULL THEN progress ELSE coalesce(nullif(convert_from(substr(
            %(octets)s, (%(numbers)s::bigint[])[pg + k]::integer + 1,
            ((%(numbers)s::bigint[])[pg + k + 1] - (%(numbers)s::bigint[])[pg + k])::integer
        ), 'UTF8'), '')::json, progress) END,
        seqs = seqs || (%(numbers)s::bigint[])[(%(numbers)s::bigint[])[q + k] : (%(numbers)s::bigint[])[q + k + 1] - 1],
        definition = CASE WHEN d IS NULL THEN definition ELSE coalesce(nullif(convert_from(substr(
            %(octets)s, (%(numbers)s::bigint[])[d + k]::integer + 1,
            ((%(numbers)s::bigint[])[d + k + 1] - (%(numbers)s::bigint[])[d + k])::integer
        ), 'UTF8'), '')::json, definition) END,
        payload = CASE WHEN p IS NULL THEN payload ELSE coalesce(nullif(convert_from(substr(
            %(octets)s, (%(numbers)s::bigint[])[p + k]::integer + 1,
            ((%(numbers)s::bigint[])[p + k + 1] - (%(numbers)s::bigint[])[p + k])::integer
        ), 'UTF8'), '')::json, payload) END,
        payload_bytes = CASE WHEN p IS NULL THEN payload_bytes ELSE coalesce(
            nullif((%(numbers)s::bigint[])[p + k + 1] - (%(numbers)s::bigint[])[p + k], 0)::integer,
            payload_bytes
        ) END
    FROM (
        SELECT c.*, k, found.place
        FROM changed c
        CROSS JOIN LATERAL generate_series(0, n - 1) AS k
        CROSS JOIN LATERAL (
            SELECT e.ctid AS place
            FROM jobs e
            WHERE e.tenant_id = c.t AND e.job_id = (%(ids)s::uuid[])[c.i + k] AND e.state = c.f
              AND (c.f <> 'running' OR e.started_at = (%(numbers)s::bigint[])[c.sa + k])
            OFFSET 0
        ) found
    ) c
    WHERE j.ctid = c.place
    RETURNING 1
),
-- end
-- in: commit_created, commit_moved, commit_jobs, commit_all
job_created AS (
    INSERT INTO jobs (
        tenant_id, job_id, state, seqs, reason, attempt, failures, crashes, due_at, scheduled_at,
        started_at, finished_at, cancel_requested_at, cancel_reason, result, error, progress,
        queue, job_type, project_id, run_id, source_id, created_at, definition, payload,
        payload_bytes
    )
    SELECT
        t, (%(ids)s::uuid[])[c.i + k], st, (%(numbers)s::bigint[])[(%(numbers)s::bigint[])[q + k] : (%(numbers)s::bigint[])[q + k + 1] - 1], re, a, fa, cr,
        (%(numbers)s::bigint[])[du + k],
        nullif((%(numbers)s::bigint[])[sc + k], -9223372036854775808),
        nullif((%(numbers)s::bigint[])[sa + k], -9223372036854775808),
        nullif((%(numbers)s::bigint[])[fi + k], -9223372036854775808),
        nullif((%(numbers)s::bigint[])[ca + k], -9223372036854775808),
        cz,
        CASE WHEN rs IS NOT NULL THEN nullif(convert_from(substr(
            %(octets)s, (%(numbers)s::bigint[])[rs + k]::integer + 1,
            ((%(numbers)s::bigint[])[rs + k + 1] - (%(numbers)s::bigint[])[rs + k])::integer
        ), 'UTF8'), '')::json END,
        CASE WHEN er IS NOT NULL THEN nullif(convert_from(substr(
            %(octets)s, (%(numbers)s::bigint[])[er + k]::integer + 1,
            ((%(numbers)s::bigint[])[er + k + 1] - (%(numbers)s::bigint[])[er + k])::integer
        ), 'UTF8'), '')::json END,
        CASE WHEN pg IS NOT NULL THEN nullif(convert_from(substr(
            %(octets)s, (%(numbers)s::bigint[])[pg + k]::integer + 1,
            ((%(numbers)s::bigint[])[pg + k + 1] - (%(numbers)s::bigint[])[pg + k])::integer
        ), 'UTF8'), '')::json END,
        qu, jt, pr, rn, so,
        (%(numbers)s::bigint[])[c + k],
        nullif(convert_from(substr(
            %(octets)s, (%(numbers)s::bigint[])[d + k]::integer + 1,
            ((%(numbers)s::bigint[])[d + k + 1] - (%(numbers)s::bigint[])[d + k])::integer
        ), 'UTF8'), '')::json,
        coalesce(nullif(convert_from(substr(
            %(octets)s, (%(numbers)s::bigint[])[p + k]::integer + 1,
            ((%(numbers)s::bigint[])[p + k + 1] - (%(numbers)s::bigint[])[p + k])::integer
        ), 'UTF8'), '')::json, 'null'),
        coalesce(nullif((%(numbers)s::bigint[])[p + k + 1] - (%(numbers)s::bigint[])[p + k], 0)::integer, 4)
    FROM created c
    CROSS JOIN LATERAL generate_series(0, n - 1) AS k
),
-- end
-- in: commit_jobs, commit_all
waiting_left AS (
    DELETE FROM waiting
    WHERE ctid = ANY (ARRAY(
        SELECT found.place
        FROM changed c
        CROSS JOIN LATERAL generate_series(0, n - 1) AS k
        CROSS JOIN LATERAL (
            SELECT w.ctid AS place
            FROM waiting w
            WHERE w.tenant_id = c.t AND w.job_id = (%(ids)s::uuid[])[c.i + k]
            OFFSET 0
        ) found
        WHERE c.f IN ('pending', 'scheduled')
    ))
    RETURNING 1
),
waiting_entered AS (
    INSERT INTO waiting (
        tenant_id, job_id, shard, queue, job_type, source_id, state, rank, due_at, delayed,
        expires_at
    )
    SELECT
        t, (%(ids)s::uuid[])[c.i + k], s, qu, jt, coalesce(so, ''), st,
        nullif((%(numbers)s::bigint[])[rk + k], -9223372036854775808),
        (%(numbers)s::bigint[])[du + k], dl,
        nullif((%(numbers)s::bigint[])[ex + k], -9223372036854775808)
    FROM (
        SELECT * FROM created
        UNION ALL
        SELECT * FROM changed WHERE (SELECT count(*) FROM waiting_left) >= 0
    ) c
    CROSS JOIN LATERAL generate_series(0, n - 1) AS k
    WHERE st IN ('pending', 'scheduled')
),
-- end
lease_due AS MATERIALIZED (
    SELECT r.*, found.place, coalesce(found.running, 0) + n - e AS running
    FROM json_to_recordset(%(leases)s::json) AS r(
        t text, s smallint, at bigint, n integer, e integer, i integer, b integer[], w text[],
        tr text[]
    )
    LEFT JOIN LATERAL (
        SELECT l.ctid AS place, l.running
        FROM leases l
        WHERE l.tenant_id = r.t AND l.granted_at = r.at
        OFFSET 0
    ) found ON true
    WHERE (SELECT held FROM fence)
),
lease_over AS (
    DELETE FROM leases
    WHERE ctid = ANY (ARRAY(SELECT place FROM lease_due WHERE running = 0))
),
lease_changed AS (
    UPDATE leases l
    SET running = d.running,
        begins = CASE WHEN n = 0 THEN l.begins
            ELSE l.begins || ARRAY(SELECT cardinality(l.job_ids) + each FROM unnest(b) AS each) END,
        worker_ids = CASE WHEN n = 0 THEN l.worker_ids
            WHEN w IS NOT NULL THEN l.worker_ids || w END,
        task_runner_ids = CASE WHEN n = 0 THEN l.task_runner_ids
            WHEN tr IS NOT NULL THEN l.task_runner_ids || tr END,
        job_ids = CASE WHEN n = 0 THEN l.job_ids
            ELSE l.job_ids || (%(ids)s::uuid[])[i : i + n - 1] END
    FROM lease_due d
    WHERE l.ctid = d.place AND d.running <> 0
),
lease_granted AS (
    INSERT INTO leases (
        tenant_id, granted_at, shard, running, begins, worker_ids, task_runner_ids, job_ids
    )
    SELECT t, at, s, running, b, w, tr, (%(ids)s::uuid[])[i : i + n - 1]
    FROM lease_due
    WHERE place IS NULL
),
-- in: commit_jobs, commit_all
gate_given AS MATERIALIZED (
    SELECT *
    FROM json_to_recordset(%(gate_states)s::json) AS r(t text, s smallint, n text, b json)
    WHERE (SELECT held FROM fence)
),
gate_forgotten AS (
    DELETE FROM gate_states g
    USING gate_given r
    WHERE r.b IS NULL AND g.tenant_id = r.t AND g.name = r.n
),
gate_kept AS (
    INSERT INTO gate_states (tenant_id, shard, name, body)
    SELECT t, s, n, b
    FROM gate_given
    WHERE b IS NOT NULL
    ON CONFLICT (tenant_id, name) DO UPDATE SET body = excluded.body
),
-- end
-- in: commit_all
control_given AS MATERIALIZED (
    SELECT *
    FROM json_to_recordset(%(controls)s::json)
        AS r(t text, s smallint, k text, n text, b json, rv integer, at bigint, dp boolean)
    WHERE (SELECT held FROM fence)
),
control_dropped AS (
    DELETE FROM controls c
    USING control_given g
    WHERE g.dp AND c.tenant_id = g.t AND c.kind = g.k AND c.name = g.n
),
control_put AS (
    INSERT INTO controls (tenant_id, shard, kind, name, body, revision, changed_at)
    SELECT t, s, k, n, b, rv, at
    FROM control_given
    WHERE dp IS NOT TRUE
    ON CONFLICT (tenant_id, kind, name) DO UPDATE
    SET body = excluded.body, revision = excluded.revision, changed_at = excluded.changed_at
),
letter_given AS MATERIALIZED (
    SELECT *
    FROM json_to_recordset(%(dead_letters)s::json) AS r(
        t text, id text, i uuid, st text, f text, ra text, jt text, qu text, cl text, sg text,
        er json, n integer, w text, at bigint
    )
    WHERE (SELECT held FROM fence)
),
letter_changed AS (
    UPDATE dead_letters l
    SET state = coalesce(g.st, 'open'), replayed_as = coalesce(g.ra, l.replayed_as)
    FROM letter_given g
    WHERE l.tenant_id = g.t AND l.dead_letter_id = g.id AND l.state = g.f
    RETURNING 1
),
letter_added AS (
    INSERT INTO dead_letters (
        tenant_id, dead_letter_id, job_id, state, replayed_as, job_type, queue, class, signature,
        error, attempts, worker_id, at
    )
    SELECT t, id, i, coalesce(st, 'open'), ra, jt, qu, cl, sg, er, n, w, at
    FROM letter_given
    WHERE f IS NULL
),
artifact_named AS (
    INSERT INTO artifacts AS e (
        tenant_id, job_id, attempt, name, uri, digest, mime, size_bytes, at
    )
    SELECT
        t, i, a, n, u, dg, coalesce(m, 'application/octet-stream'), coalesce(z, 0), at
    FROM json_to_recordset(%(artifacts)s::json) AS r(
        t text, i uuid, a integer, n text, u text, dg text, m text, z bigint, at bigint
    )
    WHERE (SELECT held FROM fence)
    ON CONFLICT (tenant_id, job_id, attempt, name) DO UPDATE
    SET uri = excluded.uri, digest = excluded.digest, mime = excluded.mime,
        size_bytes = excluded.size_bytes, at = excluded.at
),
log_added AS (
    INSERT INTO job_logs (tenant_id, job_id, attempt, at, lines)
    SELECT t, i, a, at, l
    FROM json_to_recordset(%(logs)s::json)
        AS r(t text, i uuid, a integer, at bigint, l json)
    WHERE (SELECT held FROM fence)
),
key_given AS MATERIALIZED (
    SELECT *
    FROM json_to_recordset(%(unique_keys)s::json)
        AS r(t text, k text, i uuid, u bigint, dp boolean, h uuid[], at bigint)
    WHERE (SELECT held FROM fence)
),
key_dropped AS (
    DELETE FROM unique_keys k
    USING key_given g
    WHERE g.dp AND k.tenant_id = g.t AND k.key = g.k AND k.job_id = ANY (g.h)
),
key_passed_on AS (
    UPDATE unique_keys k
    SET job_id = g.i, until_at = g.u
    FROM key_given g
    WHERE NOT g.dp AND k.tenant_id = g.t AND k.key = g.k
      AND (k.job_id = ANY (g.h) OR k.until_at <= g.at)
    RETURNING k.tenant_id, k.key
),
key_taken AS (
    INSERT INTO unique_keys (tenant_id, key, job_id, until_at)
    SELECT t, k, i, u
    FROM key_given
    WHERE NOT dp AND (t, k) NOT IN (SELECT tenant_id, key FROM key_passed_on)
),
answer_added AS (
    INSERT INTO idempotency_answers (tenant_id, key, path, body_digest, answer, at)
    SELECT t, k, pa, b, coalesce(an, 'null'), at
    FROM json_to_recordset(%(answers)s::json)
        AS r(t text, k text, pa text, b text, an json, at bigint)
    WHERE (SELECT held FROM fence)
    ON CONFLICT (tenant_id, key, path, at) DO NOTHING
),
api_key_given AS MATERIALIZED (
    SELECT *
    FROM json_to_recordset(%(api_keys)s::json) AS r(
        t text, p text, dg text, lb text, sc text[], c bigint, by text, ex bigint, rv bigint
    )
    WHERE (SELECT held FROM fence)
),
api_key_added AS (
    INSERT INTO api_keys (
        tenant_id, prefix, digest, label, scopes, created_at, created_by, expires_at
    )
    SELECT t, p, dg, coalesce(lb, ''), coalesce(sc, '{}'), coalesce(c, 0), coalesce(by, ''), ex
    FROM api_key_given
    WHERE dg IS NOT NULL
),
api_key_revoked AS (
    UPDATE api_keys k
    SET revoked_at = coalesce(k.revoked_at, g.rv), position = nextval('credential_positions')
    FROM api_key_given g
    WHERE g.dg IS NULL AND k.tenant_id = g.t AND k.prefix = g.p
),
token_revoked AS (
    INSERT INTO token_revocations AS e (tenant_id, token_id, until_at, at)
    SELECT DISTINCT ON (t, i) t, i, u, at
    FROM json_to_recordset(%(revocations)s::json) AS r(t text, i text, u bigint, at bigint)
    WHERE (SELECT held FROM fence)
    ORDER BY t, i, u DESC
    ON CONFLICT (tenant_id, token_id) DO UPDATE
    SET until_at = CASE
            WHEN e.until_at IS NOT NULL AND excluded.until_at IS NOT NULL
            THEN greatest(e.until_at, excluded.until_at)
        END,
        position = nextval('credential_positions')
),
redrive_given AS MATERIALIZED (
    SELECT *
    FROM json_to_recordset(%(redrives)s::json) AS r(
        t text, id text, st text, n integer, fa integer, ca bigint, ci text, le text, at bigint,
        o json
    )
    WHERE (SELECT held FROM fence)
),
redrive_made AS (
    INSERT INTO redrives (
        tenant_id, redrive_id, definition, state, replayed, failed, changed_at
    )
    SELECT t, id, o, coalesce(st, 'running'), 0, 0, at
    FROM redrive_given
    WHERE o IS NOT NULL
),
redrive_moved AS (
    UPDATE redrives e
    SET state = CASE
            WHEN e.state IN ('running', 'paused') THEN coalesce(g.st, e.state) ELSE e.state
        END,
        replayed = e.replayed + g.n,
        failed = coalesce(g.fa, e.failed),
        after_at = coalesce(g.ca, e.after_at),
        after_id = coalesce(g.ci, e.after_id),
        last_error = coalesce(g.le, e.last_error),
        changed_at = coalesce(g.at, e.changed_at)
    FROM (
        SELECT
            t, id, max(st) AS st, sum(coalesce(n, 0))::integer AS n, max(fa) AS fa, max(ca) AS ca,
            max(ci) AS ci, max(le) AS le, max(at) AS at
        FROM redrive_given
        WHERE o IS NULL
        GROUP BY t, id
    ) g
    WHERE e.tenant_id = g.t AND e.redrive_id = g.id
),
run_given AS MATERIALIZED (
    SELECT *
    FROM json_to_recordset(%(runs)s::json) AS r(
        t text, s smallint, i uuid, st text, f text, n integer, sa bigint, fi bigint, ca bigint,
        ro json, k text, c bigint, cb text, pr text, di text, dv integer, ff boolean, "in" json,
        ih text, tp text, ci text, rp uuid, pi uuid, pk text, pa json
    )
    WHERE (SELECT held FROM fence)
),
run_created AS (
    INSERT INTO runs (
        tenant_id, shard, run_id, state, nodes, started_at, finished_at, cancel_requested_at,
        rolled, run_token, created_at, created_by, project_id, dag_id, dag_version, fail_fast,
        inputs, inputs_hash, traceparent, correlation_id, replay_of, parent_run, parent_key, pack
    )
    SELECT
        t, s, i, st, coalesce(n, 0), sa, fi, ca, ro, k, c, cb, coalesce(pr, ''), di, dv,
        coalesce(ff, false), coalesce("in", '{}'), coalesce(ih, ''), tp, coalesce(ci, ''), rp, pi,
        pk, pa
    FROM run_given
    WHERE f IS NULL
),
run_changed AS (
    UPDATE runs r
    SET state = g.st, nodes = r.nodes + coalesce(g.n, 0),
        started_at = coalesce(g.sa, r.started_at), finished_at = coalesce(g.fi, r.finished_at),
        cancel_requested_at = coalesce(g.ca, r.cancel_requested_at),
        rolled = coalesce(g.ro, r.rolled)
    FROM (
        SELECT c.*, found.place
        FROM run_given c
        CROSS JOIN LATERAL (
            SELECT e.ctid AS place
            FROM runs e
            WHERE e.tenant_id = c.t AND e.run_id = c.i AND e.state = c.f
            OFFSET 0
        ) found
    ) g
    WHERE r.ctid = g.place
    RETURNING 1
),
part_added AS (
    INSERT INTO run_parts (tenant_id, run_id, part, body)
    SELECT
        t, i, (SELECT count(*) FROM run_parts p WHERE p.tenant_id = g.t AND p.run_id = g.i), b
    FROM json_to_recordset(%(run_parts)s::json) AS g(t text, i uuid, b json)
    WHERE (SELECT held FROM fence)
),
document_given AS MATERIALIZED (
    SELECT *
    FROM json_to_recordset(%(registry)s::json) AS r(
        t text, k text, n text, v integer, dg text, b json, c bigint, cb text, da bigint
    )
    WHERE (SELECT held FROM fence)
),
document_added AS (
    INSERT INTO registry (
        tenant_id, kind, name, version, digest, body, created_at, created_by, disabled_at
    )
    SELECT t, k, n, v, dg, b, c, cb, nullif(da, 0)
    FROM document_given
    WHERE dg IS NOT NULL
),
document_changed AS (
    UPDATE registry r
    SET disabled_at = nullif(g.da, 0)
    FROM (
        SELECT c.da, found.place
        FROM document_given c
        CROSS JOIN LATERAL (
            SELECT e.ctid AS place
            FROM registry e
            WHERE e.tenant_id = c.t AND e.kind = c.k AND e.name = c.n AND e.version = c.v
            OFFSET 0
        ) found
        WHERE c.dg IS NULL AND c.da IS NOT NULL
    ) g
    WHERE r.ctid = g.place
),
webhook_made AS (
    INSERT INTO webhooks (
        tenant_id, webhook_id, url, types, description, wrapping, secret, state, reason,
        begins_after_seq, created_at, created_by, changed_at, revision
    )
    SELECT
        t, i, u, coalesce(ty, '{}'), coalesce(d, ''), coalesce(wr, 'none'),
        decode(coalesce(se, ''), 'base64'), coalesce(st, 'active'), re, coalesce(b, 0),
        coalesce(c, 0), coalesce(cb, ''), coalesce(at, 0), coalesce(rv, 1)
    FROM json_to_recordset(%(webhooks_made)s::json) AS r(
        t text, i text, u text, ty text[], d text, wr text, se text, st text, re text, b bigint,
        c bigint, cb text, at bigint, rv integer
    )
    WHERE (SELECT held FROM fence)
    ON CONFLICT (tenant_id, webhook_id) DO NOTHING
),
webhook_given AS MATERIALIZED (
    SELECT r.*, found.place
    FROM json_to_recordset(%(webhooks_changed)s::json) AS r(
        t text, i text, u text, ty text[], d text, wr text, se text, st text, re text, b bigint,
        c bigint, cb text, at bigint, rv integer, dp boolean
    )
    CROSS JOIN LATERAL (
        SELECT e.ctid AS place
        FROM webhooks e
        WHERE e.tenant_id = r.t AND e.webhook_id = r.i AND (r.dp OR e.revision < r.rv)
        OFFSET 0
    ) found
    WHERE (SELECT held FROM fence)
),
webhook_changed AS (
    UPDATE webhooks w
    SET url = g.u, types = coalesce(g.ty, '{}'), description = coalesce(g.d, ''),
        wrapping = coalesce(g.wr, 'none'), secret = decode(coalesce(g.se, ''), 'base64'),
        state = coalesce(g.st, 'active'), reason = g.re, changed_at = coalesce(g.at, 0),
        begins_after_seq = coalesce(g.b, 0), revision = g.rv
    FROM webhook_given g
    WHERE g.dp IS NOT TRUE AND w.ctid = g.place
),
webhook_dropped AS (
    DELETE FROM webhooks w
    USING webhook_given g
    WHERE g.dp AND w.ctid = g.place
),
-- end
-- in: commit_jobs, commit_all
head_made AS (
    INSERT INTO ledger_heads (tenant_id, next_seq, link, batch_id)
    SELECT tenant_id, last_seq + 1, link, %(batch_id)s::text
    FROM block
    WHERE first_seq = 1 AND (SELECT held FROM fence)
),
-- end
block_added AS (
    INSERT INTO ledger_blocks (tenant_id, first_seq, last_seq, at, previous, link, body_bytes, body)
    SELECT tenant_id, first_seq, last_seq, at, previous, link, body_bytes, body
    FROM block
    WHERE (SELECT held FROM fence)
)
SELECT commit_guard(
    0
    -- in: commit_changed, commit_moved, commit_jobs, commit_all
    + (SELECT count(*) FROM job_changed)
    -- end
    -- in: commit_all
    + (SELECT count(*) FROM letter_changed) + (SELECT count(*) FROM run_changed)
    -- end
    ,
    0
    -- in: commit_changed, commit_moved, commit_jobs, commit_all
    + (SELECT coalesce(sum(n), 0)::bigint FROM changed)
    -- end
    -- in: commit_all
    + (SELECT count(*) FROM letter_given WHERE f IS NOT NULL)
    + (SELECT count(*) FROM run_given WHERE f IS NOT NULL)
    -- end
    ,
    'JE002'
);
