"""Hot questions use the index they name, whatever else the tables hold."""

import json
from typing import Any

import psycopg
import pytest

from jobengine.store.postgres.opening import COMMIT_SETTINGS
from jobengine.store.postgres.statements import load_statements
from tests.store.conformance.scribe import NOW, SHARD

ID = "01980000-0000-7000-8000-000000000042"
FIRST_ID = "00000000-0000-0000-0000-000000000000"
FILTER = {
    "states": None,
    "job_type": None,
    "queue": None,
    "run_id": None,
    "source_id": None,
    "project_id": None,
    "label_name": None,
    "label_value": None,
    "created_from_at": None,
    "created_before_at": None,
}
LETTERS = {
    "before_at": NOW,
    "before_id": "x",
    "letters_max": 50,
    "job_type": None,
    "queue": None,
    "class": None,
    "signature": None,
}

FILL = f"""
    INSERT INTO jobs (job_id, tenant_id, created_at, due_at, attempt, failures, crashes, state,
        queue, job_type, run_id, seqs, definition, payload, payload_bytes)
    SELECT gen_random_uuid(), 't' || n % 20, {NOW}, {NOW}, 0, 0, 0, 'scheduled', 'q' || n % 7, 'j',
        CASE WHEN n % 2 = 0 THEN n % 70 END, '{{1}}', '{{}}', '{{}}', 2
    FROM generate_series(1, 20000) n;
    INSERT INTO waiting (job_id, tenant_id, rank, due_at, expires_at, shard, delayed, queue,
        job_type, state)
    SELECT job_id, tenant_id, (random() * 1e6)::bigint, {NOW} + (random() * 1e6)::bigint,
        CASE WHEN random() < 0.1 THEN {NOW} END, hashtext(tenant_id) & 15, random() < 0.2, queue,
        job_type, state
    FROM jobs;
    INSERT INTO leases (tenant_id, granted_at, running, shard, begins, worker_ids, task_runner_ids,
        job_ids)
    SELECT 't' || n % 20, {NOW} + n, 1, n % 16, '{{1}}', '{{w}}', '{{r}}',
        ARRAY[gen_random_uuid()]
    FROM generate_series(1, 5000) n;
    INSERT INTO ledgers SELECT 't' || n FROM generate_series(1, 5000) n;
    INSERT INTO ledger_heads SELECT 't' || n, 2, sha256(''), 'b' FROM generate_series(1, 5000) n;
    INSERT INTO ledger_blocks (tenant_id, first_seq, last_seq, at, body_bytes, link, previous, body)
    SELECT 't' || n % 20, n, n, {NOW} + (n % 2) * 86400000000::bigint, 1, sha256(''), sha256(''), ''
    FROM generate_series(1, 10000) n;
    INSERT INTO dead_letters (at, job_id, attempts, tenant_id, dead_letter_id, state, queue,
        job_type)
    SELECT {NOW} - n, gen_random_uuid(), 1, 't' || n % 20, n::text,
        CASE WHEN n % 50 = 0 THEN 'open' ELSE 'discarded' END, 'q', 'j'
    FROM generate_series(1, 10000) n;
    INSERT INTO redrives (tenant_id, redrive_id, changed_at, replayed, failed, state, definition)
    SELECT 't' || n % 20, n::text, {NOW}, 0, 0,
        CASE WHEN n % 500 = 0 THEN 'running' ELSE 'completed' END, '{{}}'
    FROM generate_series(1, 10000) n;
    INSERT INTO artifacts (at, size_bytes, job_id, attempt, tenant_id, name, mime)
    SELECT {NOW}, 1, job_id, 1, tenant_id, 'a', 'm' FROM jobs;
    INSERT INTO job_logs (at, job_id, attempt, tenant_id, lines)
    SELECT {NOW}, job_id, 1, tenant_id, '[]' FROM jobs;
    INSERT INTO unique_keys SELECT job_id, NULL, tenant_id, job_id::text FROM jobs;
    INSERT INTO idempotency_answers (at, tenant_id, key, path, body_digest, answer)
    SELECT {NOW}, tenant_id, job_id::text, '/', 'd', '{{}}' FROM jobs;
    INSERT INTO api_keys (created_at, tenant_id, prefix, digest, label, created_by, scopes)
    SELECT {NOW} - n, 't' || n % 20, 'p' || n, encode(sha256(n::text::bytea), 'hex'), '', '', '{{}}'
    FROM generate_series(1, 10000) n;
    INSERT INTO token_revocations (at, until_at, tenant_id, token_id)
    SELECT {NOW}, {NOW} + n * 1000000::bigint, 't' || n % 20, 'i' || n
    FROM generate_series(1, 10000) n;
    INSERT INTO artifact_contents (stored_at, touched_at, size_bytes, content_id, tenant_id, digest,
        mime)
    SELECT {NOW}, {NOW} - n, 1, gen_random_uuid(), 't' || n % 20,
        'sha256:' || encode(sha256(n::text::bytea), 'hex'), 'm'
    FROM generate_series(1, 10000) n;
    INSERT INTO artifact_chunks (content_id, number, tenant_id, chunk)
    SELECT content_id, 0, tenant_id, 'x' FROM artifact_contents;
    INSERT INTO artifact_usage (size_bytes, tenant_id)
    SELECT count(*), tenant_id FROM artifact_contents GROUP BY tenant_id;
    INSERT INTO controls (changed_at, revision, shard, tenant_id, kind, name, body)
    SELECT {NOW}, 1, n % 16, 't' || n % 20, 'source', n::text, '{{}}'
    FROM generate_series(1, 10000) n;
    INSERT INTO gate_states (shard, tenant_id, name, body)
    SELECT n % 16, 't' || n % 20, n::text, '{{}}' FROM generate_series(1, 10000) n;
    INSERT INTO runs (run_id, created_at, started_at, finished_at, nodes, shard, fail_fast,
        tenant_id, run_token, state, project_id, created_by, correlation_id, inputs_hash, inputs)
    SELECT gen_random_uuid(), {NOW} + n, {NOW} + n, {NOW} + n, 1, n % 16, false, 't' || n % 20, n,
        CASE WHEN n % 50 = 0 THEN 'running' ELSE 'completed' END, '', '', '', '', '{{}}'
    FROM generate_series(1, 10000) n;
    INSERT INTO run_parts (run_id, part, tenant_id, body)
    SELECT run_id, 0, tenant_id, '{{}}' FROM runs;
    INSERT INTO registry (created_at, version, tenant_id, kind, name, digest, created_by, body)
    SELECT {NOW}, 1 + n % 9, 't' || n % 20, 'dag', n::text,
        encode(sha256(n::text::bytea), 'hex'), '', '{{}}'
    FROM generate_series(1, 10000) n;
    INSERT INTO feed_cursors (seq, at, tenant_id, feed, note)
    SELECT n % 3, {NOW}, 't' || n % 5000, 'bus:' || n % 3, '{{}}' FROM generate_series(1, 10000) n;
    INSERT INTO webhooks (begins_after_seq, created_at, changed_at, revision, tenant_id, webhook_id,
        state, wrapping, url, types, description, created_by, secret)
    SELECT 0, {NOW}, {NOW}, 1, 't' || n % 20, n::text, 'active', 'none', 'https://example.com',
        '{{}}', '', '', ''
    FROM generate_series(1, 10000) n;
    ANALYZE artifact_contents, artifact_chunks, controls, feed_cursors, jobs, waiting, leases,
        ledgers, ledger_heads, dead_letters, redrives, artifacts, unique_keys, api_keys,
        token_revocations, runs, run_parts, registry, webhooks
"""

CASES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "artifact_content": (
        {"tenant_id": "t1", "digest": "sha256:" + "0" * 64},
        ("artifact_contents_digest_is_one_contents",),
    ),
    "artifact_chunk": (
        {"tenant_id": "t1", "content_id": ID, "number": 0},
        ("artifact_chunks_pkey",),
    ),
    "jobs_by_id": ({"tenant_id": "t1", "job_ids": [ID]}, ("jobs_pkey",)),
    "job_list": (
        {"tenant_id": "t1", "before_id": ID, "rows_max": 200, "jobs_max": 50, **FILTER},
        ("jobs_pkey",),
    ),
    "job_list_live": (
        {"tenant_id": "t1", "before_id": ID, "rows_max": 20, "jobs_max": 9, **FILTER}
        | {"states": ["scheduled", "running"]},
        ("waiting_pkey", "leases_pkey", "jobs_pkey"),
    ),
    "key_holders": (
        {"tenant_id": "t1", "keys": ["a"], "now_at": NOW},
        ("unique_keys_pkey", "jobs_pkey"),
    ),
    "idempotency_answers": (
        {"tenant_id": "t1", "keys": ["a"], "paths": ["/"], "since_at": NOW - 1},
        ("idempotency_answers_%_pkey",),
    ),
    "lanes": ({"shard": SHARD, "now_at": NOW}, ("waiting_lane",)),
    "ready": (
        {"tenant_id": "t1", "queue": "q1", "job_type": "j", "source_id": "", "after_rank": 5}
        | {"after_id": FIRST_ID, "now_at": NOW, "jobs_max": 20, "bytes_max": 1000},
        ("waiting_lane", "jobs_pkey"),
    ),
    "backlogs_of_shard": ({"shard": SHARD}, ("waiting_pkey",)),
    "jobs_ahead": (
        {"tenant_id": "t1", "queue": "q1", "job_type": "j", "source_id": "", "before_rank": 5}
        | {"before_id": FIRST_ID, "now_at": NOW, "jobs_max": 20},
        ("waiting_lane",),
    ),
    "control_list": (
        {"tenant_id": "t1", "kind": "source", "after_name": "", "controls_max": 20},
        ("controls_pkey",),
    ),
    "delayed": (
        {"shard": SHARD, "after_at": NOW, "after_id": FIRST_ID, "jobs_max": 20},
        ("waiting_delayed", "jobs_pkey"),
    ),
    "expiring": (
        {"shard": SHARD, "after_at": NOW - 1, "after_id": FIRST_ID, "jobs_max": 20},
        ("waiting_expiring",),
    ),
    "ledger_heads": ({"tenant_ids": ["t1", "t2"]}, ("ledger_heads_pkey",)),
    "ledger_blocks_holding": (
        {"tenant_id": "t1", "seqs": [1, 700, 9000]},
        ("ledger_blocks_%_pkey",),
    ),
    "ledger_blocks_after": (
        {"tenant_id": "t1", "after_seq": 100, "blocks_max": 10, "bytes_max": 1000},
        ("ledger_blocks_%_pkey",),
    ),
    "dead_letter_list": ({"tenant_id": "t1", "states": None, **LETTERS}, ("dead_letters_newest",)),
    "dead_letter_list_open": ({"tenant_id": "t0", **LETTERS}, ("dead_letters_open",)),
    "dead_letter_groups": (
        {"tenant_id": "t1", "states": None, "groups_max": 9, **LETTERS},
        ("dead_letters_newest",),
    ),
    "dead_letter_groups_open": (
        {"tenant_id": "t0", "groups_max": 9, **LETTERS},
        ("dead_letters_open",),
    ),
    "redrive_list": (
        {"tenant_id": "t1", "before_id": "x", "redrives_max": 9},
        ("redrives_pkey",),
    ),
    "redrive_by_id": ({"tenant_id": "t1", "redrive_id": "1"}, ("redrives_pkey",)),
    "redrives_unfinished": (
        {"after_tenant": "", "after_id": "", "redrives_max": 9},
        ("redrives_unfinished",),
    ),
    "dead_letter_by_id": ({"tenant_id": "t1", "dead_letter_id": "1"}, ("dead_letters_pkey",)),
    "artifacts_of_job": ({"tenant_id": "t1", "job_id": ID}, ("artifacts_pkey",)),
    "api_key_list": (
        {"tenant_id": "t1", "before_at": NOW, "before_prefix": "", "keys_max": 50},
        ("api_keys_newest",),
    ),
    "api_key_by_prefix": ({"tenant_id": "t1", "prefix": "p1"}, ("api_keys_p%",)),
    "credentials_after": (
        {"after": 19_900, "rows_max": 1000},
        ("api_keys_changed", "token_revocations_changed"),
    ),
    "api_key_uses": (
        {"tenant_ids": ["t1", "t2"], "prefixes": ["p1", "p2"], "days_at": [NOW, NOW]},
        ("api_keys_p%",),
    ),
    "feed_cursors_of_tenant": (
        {"tenant_id": "t1", "feeds": ["bus:1", "bus:2"]},
        ("feed_cursors_pkey",),
    ),
    "feeds_behind": (
        {"feed": "bus:1", "after_tenant": "t1", "tenants_max": 100},
        ("ledgers_pkey", "ledger_heads_pkey", "feed_cursors_pkey"),
    ),
    "drop_revocations": ({"before_at": NOW + 1_000_000}, ("token_revocations_over",)),
    "run_by_id": ({"tenant_id": "t1", "run_id": ID}, ("runs_pkey",)),
    "run_by_token": ({"tenant_id": "t1", "run_token": "1"}, ("runs_token_is_one_runs",)),
    "run_list": (
        {"tenant_id": "t1", "before_at": NOW, "before_id": ID, "runs_max": 50, "states": None}
        | {"dag_id": None, "project_id": None, "pack_id": None, "packs": False}
        | {"created_from_at": 0, "created_before_at": NOW},
        ("runs_newest",),
    ),
    "run_export": (
        {"tenant_id": "t1", "from_at": NOW, "before_at": NOW + 5_000, "after_at": NOW}
        | {"after_id": ID, "runs_max": 50},
        ("runs_ended",),
    ),
    "runs_live": (
        {"shard": SHARD, "after_tenant": "", "after_id": ID, "runs_max": 50},
        ("runs_unfinished",),
    ),
    "parts_of_run": ({"tenant_id": "t1", "run_id": ID}, ("run_parts_pkey",)),
    "nodes_of_run": (
        {"tenant_id": "t1", "run_id": "2", "after_id": ID, "nodes_max": 50},
        ("jobs_of_run",),
    ),
    "nodes_by_id": ({"tenant_id": "t1", "job_ids": [ID]}, ("jobs_pkey",)),
    "logs_of_run": (
        {"tenant_id": "t1", "run_id": ID, "after": 0, "rows_max": 50, "bytes_max": 1 << 18},
        ("jobs_of_run", "runs_pkey", "job_logs_%_pkey"),
    ),
    "artifacts_of_run": (
        {"tenant_id": "t1", "run_id": "2", "after_key": "", "after_attempt": -1}
        | {"after_name": "", "rows_max": 50},
        ("jobs_of_run", "artifacts_pkey"),
    ),
    "typical_durations": ({"tenant_id": "t1", "jobs_max": 50}, ("jobs_pkey",)),
    "document_by_name": (
        {"tenant_id": "t1", "kind": "dag", "document_name": "1", "version": None},
        ("registry_pkey",),
    ),
    "document_by_digest": (
        {"tenant_id": "t1", "kind": "dag", "digest": "0" * 64},
        ("registry_digest",),
    ),
    "document_list": (
        {"tenant_id": "t1", "kind": "dag", "after_name": "", "after_version": 0, "rows_max": 20},
        ("registry_pkey",),
    ),
    "document_versions": (
        {"tenant_id": "t1", "kind": "dag", "document_name": "1", "after_version": 0}
        | {"rows_max": 20},
        ("registry_pkey",),
    ),
    "webhook_by_id": ({"tenant_id": "t1", "webhook_id": "1"}, ("webhooks_pkey",)),
    "webhook_list": (
        {"tenant_id": "t1", "before_id": "x", "webhooks_max": 9},
        ("webhooks_pkey",),
    ),
    "webhooks_of_all": (
        {"after_tenant": "", "after_id": "", "webhooks_max": 9},
        ("webhooks_pkey",),
    ),
    "logs_of_job": (
        {"tenant_id": "t1", "job_id": ID, "place": 0, "rows_max": 10, "bytes_max": 1 << 18},
        ("job_logs_%_pkey",),
    ),
    "log_rows_stored": (
        {"tenant_ids": ["t1", "t2"], "job_ids": [ID, ID], "ats": [NOW, NOW + 1]},
        ("job_logs_%_pkey",),
    ),
    "logs_of_job_back": (
        {"tenant_id": "t1", "job_id": ID, "place": 1 << 60, "rows_max": 10, "bytes_max": 1 << 18},
        ("job_logs_%_pkey",),
    ),
}


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in nodes(child))]


def literal(session: psycopg.Connection[Any], value: object) -> str:
    return psycopg.sql.Literal(value).as_string(session)


@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
def test_hot_questions_use_their_index(migrated_database: str, generic: bool) -> None:
    statements = load_statements()
    with psycopg.connect(migrated_database, autocommit=True) as session:
        session.execute(FILL)
        session.execute(
            "SET plan_cache_mode = force_%s_plan" % ("generic" if generic else "custom")
        )
        for name, (parameters, indexes) in CASES.items():
            statement = statements[name]
            values = ", ".join(literal(session, parameters[each]) for each in statement.parameters)
            session.execute(f"PREPARE {name} AS {statement.sql}")
            (rows,) = session.execute(
                f"EXPLAIN (FORMAT json) EXECUTE {name} ({values})"
            ).fetchone() or ([],)
            found = nodes(rows[0]["Plan"])
            used = {node["Index Name"] for node in found if "Index Name" in node}
            scanned = [node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"]
            assert not scanned, (name, json.dumps(rows, indent=1))
            for index in indexes:
                prefix, _, suffix = index.partition("%")
                hit = any(each.startswith(prefix) and each.endswith(suffix) for each in used)
                assert hit, (name, index, used)


def test_commits_are_planned_for_growth_while_tables_are_empty(migrated_database: str) -> None:
    statement = load_statements()["commit_all"]
    empty = {"batch_id": "b", "octets": b""}
    with psycopg.connect(migrated_database, autocommit=True) as session:
        session.execute("ANALYZE")
        session.execute(COMMIT_SETTINGS)
        values = ", ".join(
            literal(session, empty.get(e, [] if e in ("ids", "numbers") else "[]"))
            for e in statement.parameters
        )
        session.execute(f"PREPARE commit AS {statement.sql}")
        (rows,) = session.execute(
            f"EXPLAIN (FORMAT json) EXECUTE commit ({values})"
        ).fetchone() or ([],)
    found = nodes(rows[0]["Plan"])
    kinds = {node["Node Type"] for node in found}
    assert not kinds & {"Seq Scan", "Hash Join", "Merge Join"}
    used = {node["Index Name"] for node in found if "Index Name" in node}
    assert used >= {
        "ledger_heads_pkey",
        "jobs_pkey",
        "waiting_pkey",
        "leases_pkey",
        "dead_letters_pkey",
        "unique_keys_pkey",
        "runs_pkey",
        "run_parts_pkey",
        "registry_pkey",
        "webhooks_pkey",
    }


@pytest.mark.parametrize(
    ("commit", "tables"),
    [
        ("commit_created", {"leases"}),
        ("commit_changed", {"jobs", "leases"}),
        ("commit_moved", {"jobs", "leases"}),
        ("commit_jobs", {"jobs", "waiting", "leases"}),
        (
            "commit_all",
            {"jobs", "waiting", "leases", "runs", "run_parts", "registry", "webhooks"},
        ),
    ],
)
def test_a_commit_finds_its_rows_by_key_in_tables_that_were_empty(
    migrated_database: str, commit: str, tables: set[str]
) -> None:
    """Planned as after a quiet moment: the tables were full, and are known to be empty, but for one
    head, of which there may be any number of old versions."""
    statement = load_statements()[commit]
    tables = {*tables, "ledger_heads"}
    empty = {"batch_id": "b", "octets": b""}
    with psycopg.connect(migrated_database, autocommit=True) as session:
        session.execute(FILL)
        for table in tables:
            session.execute(
                f"DELETE FROM {table} WHERE '{table}/' || tenant_id <> 'ledger_heads/t1'"
            )
            session.execute(f"VACUUM ANALYZE {table}")
        session.execute(COMMIT_SETTINGS)
        values = ", ".join(
            literal(session, empty.get(e, [] if e in ("ids", "numbers") else "[]"))
            for e in statement.parameters
        )
        session.execute(f"PREPARE commit AS {statement.sql}")
        (rows,) = session.execute(
            f"EXPLAIN (FORMAT json) EXECUTE commit ({values})"
        ).fetchone() or ([],)
    scans = [
        node
        for node in nodes(rows[0]["Plan"])
        if node.get("Relation Name") in tables and "Scan" in node["Node Type"]
    ]
    assert {node["Relation Name"] for node in scans} == tables
    for node in scans:
        key = {
            "leases": "granted_at",
            "ledger_heads": "next_seq",
            "registry": "version",
            "runs": "run_id",
            "run_parts": "run_id",
            "webhooks": "webhook_id",
        }.get(node["Relation Name"], "job_id")
        condition = node.get("Index Cond", "")
        by_key = f"{key} =" in condition and "tenant_id =" in condition
        assert by_key or node["Node Type"] == "Tid Scan", node


def test_rows_are_found_by_their_key_where_the_plan_is_older_than_they_are(
    migrated_database: str,
) -> None:
    statements = load_statements()
    by_key = ("document_", "job_states", "jobs_by_id", "nodes_", "parts_", "run_")
    names = [name for name in CASES if name.startswith(by_key)]
    assert len(names) > 11
    with psycopg.connect(migrated_database, autocommit=True) as session:
        session.execute("ANALYZE")
        session.execute(COMMIT_SETTINGS)
        for name in names:
            parameters, indexes = CASES[name]
            statement = statements[name]
            values = ", ".join(literal(session, parameters[each]) for each in statement.parameters)
            session.execute(f"PREPARE {name} AS {statement.sql}")
            (rows,) = session.execute(
                f"EXPLAIN (FORMAT json) EXECUTE {name} ({values})"
            ).fetchone() or ([],)
            used = [node for node in nodes(rows[0]["Plan"]) if "Index Name" in node]
            assert [node["Index Name"] for node in used] == list(indexes), name
            for node in used:
                assert node["Index Cond"].count(" AND ") >= 1, (name, node)
