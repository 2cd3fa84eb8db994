"""Every knob of the engine: unit, default, bounds, reason.

A setting is named quantity, unit, qualifier; `_s` are seconds, `_us` microseconds, `_max` limits.
Where a value comes from (flag, environment, file) is the command line's matter.
"""

import re
from pathlib import Path

import attrs
from attrs import validators

__all__ = ["Settings"]


def _number(default: float, low: float, high: float) -> float:
    number: float = attrs.field(
        default=default, validator=validators.and_(validators.ge(low), validators.le(high))
    )
    return number


def _count(default: int, low: int, high: int) -> int:
    count: int = attrs.field(
        default=default, validator=validators.and_(validators.ge(low), validators.le(high))
    )
    return count


def _is_pattern(_: object, field: "attrs.Attribute[str | None]", value: str | None) -> None:
    try:
        re.compile(value or "")
    except re.error as error:
        raise ValueError(f"{field.name} is no regular expression: {error}") from None


def _pattern() -> str | None:
    pattern: str | None = attrs.field(default=None, validator=_is_pattern)
    return pattern


@attrs.frozen(kw_only=True)
class Settings:
    """Defaults suit two cores and 2 GiB; each field's text says what it trades."""

    node_id: str = "node-1"
    """Named in `welcome` frames and logs; any name that tells the machines apart."""

    shards: int = _count(16, 1, 1024)
    """Lease shards. Fixed for a database: tenants are hashed onto them."""

    ask_timeout_s: float = _number(15.0, 0.1, 300.0)
    """How long a door waits for a decision and its commit before it answers 503."""

    mailbox_messages_max: int = _count(4_096, 16, 1_000_000)
    """Requests that may wait for one shard; beyond it doors answer 503 at once."""

    memory_bytes_max: int = _count(0, 0, 1 << 50)
    """Memory of the engine's process from nine tenths of which on no new work is taken; 0: what its
    control group or the machine has."""

    tenant_backlog_jobs_max: int = _count(5_000_000, 1, 1_000_000_000)
    """Jobs of one tenant that may wait; a submit that would exceed it is answered 429."""

    tenant_controls_max: int = _count(10_000, 1, 1_000_000)
    """Sources, quotas, throttles, blackouts, pauses and weights of one tenant; about 1 KiB each."""

    tenant_lanes_max: int = _count(10_000, 1, 1_000_000)
    """Combinations of a queue, a job type and a source in which jobs of one tenant may wait; new
    jobs that would open more are answered 429. About 2 KiB each."""

    # ---- leases
    heartbeat_s: float = _number(10.0, 0.1, 1200.0)
    """How often workers are asked to renew; a session silent for four of these is closed."""

    hello_within_s: float = _number(10.0, 0.1, 60.0)
    """A connection that has not said `hello` by then is closed."""

    crashes_max: int = _count(3, 1, 1000)
    """Lost workers after which a job is set aside as `crash_loop`."""

    cancel_grace_s: float = _number(30.0, 1.0, 3600.0)
    """How long a worker may take to confirm a cancel before its lease ends without it."""

    # ---- ready work
    ageing_s: float = _number(60.0, 1.0, 86_400.0)
    """Waiting this long counts as one step of priority: what keeps low priorities from starving."""

    lane_jobs_max: int = _count(4_000, 64, 1_000_000)
    """Ready jobs of one lane in memory; the rest waits in the store. About 2 KiB each."""

    lane_bytes_max: int = _count(8 << 20, 1 << 20, 1 << 30)
    """Bytes of one lane's jobs in memory, for large payloads."""

    window_jobs_max: int = _count(20_000, 64, 10_000_000)
    """Ready jobs of all lanes of one shard in memory."""

    due_jobs_max: int = _count(2_000, 16, 1_000_000)
    """Delayed jobs of one shard in memory, the next to fall due."""

    # ---- commits
    batch_entries_max: int = _count(12_000, 1, 1_000_000)
    """Ledger entries in one transaction: bounds the longest commit, and what is sent again."""

    commit_target_s: float = _number(0.05, 0.001, 10.0)
    """How long a commit may take while tenants share the ledger: what bounds its entries then."""

    commits_in_flight_max: int = _count(2, 1, 16)
    """Commits that may be under way beside each other, of different tenants; each has a connection,
    on which one more may follow it."""

    commit_follow_entries: int = _count(2_000, 0, 1_000_000)
    """So many ledger entries of a tenant, or as many as its commit under way carries, have to wait
    until they are sent behind it. Fewer wait for its end: a commit has a fixed cost. 0: all do."""

    commit_timeout_s: float = _number(10.0, 0.1, 300.0)
    """How long a commit may stay unanswered until its connection is given up, and its outcome
    looked up on another one."""

    backoff_s_max: float = _number(2.0, 0.05, 60.0)
    """Longest pause between tries while the database is away."""

    # ---- streams
    ring_events_max: int = _count(8_192, 16, 1_000_000)
    """Recent events kept for the readers of one tenant; older ones come from the ledger."""

    ring_bytes_max: int = _count(8 << 20, 1 << 16, 1 << 30)
    """Bytes of those events, for large ones."""

    stream_buffer_events_max: int = _count(1_024, 16, 100_000)
    """Events kept for one reader that is slow; beyond it the ledger keeps them until it is not."""

    stream_readers_max: int = _count(2_000, 1, 1_000_000)
    """Streams of events that are open at once, at most half of them one tenant's; beyond it they
    are answered 503."""

    # ---- logs
    job_log_bytes_max: int = _count(10 << 20, 1 << 12, 1 << 34)
    """Bytes of log lines kept of one attempt; what it says beyond them is dropped, and said so."""

    log_retention_s: float = _number(14 * 86_400.0, 86_400.0, 10 * 365 * 86_400.0)
    """How long log lines are kept; they go by whole days (UTC), up to one day later."""

    # ---- webhooks
    webhook_timeout_s: float = _number(10.0, 0.1, 60.0)
    """How long a receiver may take to confirm an event, looking up its name included."""

    webhook_deliveries_max: int = _count(32, 1, 10_000)
    """Requests to webhooks under way at once; slow receivers get at most half of them."""

    webhook_failures_max: int = _count(20, 1, 1_000_000)
    """Failures in a row after which a webhook is paused, if they span `webhook_failing_s`."""

    webhook_failing_s: float = _number(3_600.0, 0.0, 30 * 86_400.0)
    """How long a webhook must have failed before it is paused: what an outage may take."""

    webhook_backoff_s_min: float = _number(1.0, 0.001, 3_600.0)
    """The wait after a failure, which doubles with each that follows."""

    webhook_backoff_s_max: float = _number(300.0, 0.001, 86_400.0)
    """The longest of these waits."""

    tenant_webhooks_max: int = _count(100, 1, 100_000)
    """Webhooks of one tenant; each reads the tenant's events for itself."""

    # ---- the bus
    bus_url: str | None = None
    """A message bus, such as nats://user:password@host:4222 or valkey://host:6379/0; none when not
    set. See docs/bus.md."""

    bus_events: str = attrs.field(default="on", validator=validators.in_(("off", "on")))
    """Whether the events of tenants are published on the bus."""

    bus_jobs: str = attrs.field(default="off", validator=validators.in_(("off", "on")))
    """Whether requests for jobs are taken from the bus: whoever may publish there may submit."""

    bus_tenants: str = "*"
    """The tenants whose events are published and who may submit by bus, with commas; `*`: all."""

    bus_prefix: str = attrs.field(
        default="jobengine", validator=validators.matches_re(r"[A-Za-z0-9_-]{1,64}")
    )
    """What every subject, stream and key on the bus begins with: letters, digits, `-` and `_`."""

    bus_keep_s: float = _number(7 * 86_400.0, 60.0, 10 * 365 * 86_400.0)
    """How long NATS keeps events and what was set aside, where the engine makes the streams."""

    bus_stream_events_max: int = _count(100_000, 100, 1_000_000_000)
    """About how many events Valkey keeps of each tenant; they lie in its memory."""

    bus_retry_s: float = _number(30.0, 0.1, 3600.0)
    """After how long a request that could not be carried out is delivered again."""

    # ---- artifacts
    artifact_bytes_max: int = _count(64 << 20, 1 << 10, 1 << 36)
    """The largest artifact that is taken."""

    tenant_artifact_bytes_max: int = _count(10 << 30, 1 << 10, 1 << 50)
    """What the artifacts of one tenant may add up to; they are kept in the database."""

    artifact_grace_s: float = _number(7 * 86_400.0, 3_600.0, 10 * 365 * 86_400.0)
    """How long an artifact that no attempt has named is kept after it was stored last."""

    # ---- secrets
    redact_names: str | None = None
    """More names that mark a secret, with commas, beside password, token, api_key and such."""

    redact_pattern: str | None = _pattern()
    """A regular expression; what it matches in texts that are kept is taken for a secret too."""

    redact_payloads: str = attrs.field(default="off", validator=validators.in_(("off", "on")))
    """Whether payloads and results lose secrets too: workers then get stand-ins for them."""

    # ---- limits of the doors
    token_requests_per_s: float = _number(2_500.0, 0.01, 1e6)
    """HTTP requests a second of one token, on average; beyond it 429 with `Retry-After`."""

    token_requests_burst: int = _count(5_000, 1, 10_000_000)
    """HTTP requests of one token at once."""

    tenant_requests_per_s: float = _number(5_000.0, 0.01, 1e6)
    """The same for all tokens of a tenant together."""

    tenant_requests_burst: int = _count(10_000, 1, 10_000_000)
    """HTTP requests of a tenant at once."""

    token_connections_per_s: float = _number(500.0, 0.01, 1e6)
    """Worker connections a second with one token; a fleet that shares one comes back at once."""

    token_connections_burst: int = _count(5_000, 1, 10_000_000)
    """Worker connections with one token at once."""

    session_frames_per_s: float = _number(10_000.0, 1.0, 1e6)
    """Frames a second of one worker; beyond it the session is closed and its leases live on."""

    session_frames_burst: int = _count(40_000, 1, 10_000_000)
    """Frames of one worker at once; a frame can hold many messages."""

    # ---- telemetry
    metric_keys_max: int = _count(100, 0, 100_000)
    """Breakers, buckets, quotas and other gates that `/metrics` shows, of each kind."""

    # ---- the database
    pool_size_max: int = _count(6, 1, 100)
    """Connections for tenants' reads, half of them at most for one tenant; shards have three,
    commits `commits_in_flight_max`."""

    connect_timeout_s: float = _number(10.0, 0.1, 120.0)
    """How long each host of the database may take to accept a connection."""

    read_timeout_s: float = _number(30.0, 0.1, 3600.0)
    """How long a read may stay unanswered until its connection is given up; the longest are those
    of a shard that starts with millions of jobs."""

    prepare_interval_s: float = _number(6 * 3600.0, 1.0, 86_400.0)
    """How often partitions are made ahead and expired answers dropped."""

    # ---- the embedded database
    embedded_bin_dir: Path | None = None
    """Directory of `postgres` and `initdb`; when not set, the wheel's, then the system's newest."""

    embedded_server_user: str | None = None
    """Who runs a new embedded PostgreSQL when the engine is root; when not set, the owner of
    `postgres/` in the data directory, else `postgres`, else `nobody`."""

    embedded_runtime_dir: Path | None = None
    """Where the private directory of its socket is made; when not set, with temporary files."""

    embedded_tcp_port: int | None = attrs.field(
        default=None,
        validator=validators.optional(validators.and_(validators.ge(1), validators.le(65_535))),
    )
    """It also listens here on 127.0.0.1, for roles that were given a password; not when not set."""

    embedded_shared_buffers_mib: int = _count(64, 8, 65_536)
    """Its own cache; that of the system does the rest."""

    embedded_start_s_max: float = _number(120.0, 0.1, 86_400.0)
    """How long its start may take; crash recovery is waited for as long as it goes on, and given up
    when it has told of no progress for this long."""

    embedded_initialise_s_max: float = _number(120.0, 0.1, 86_400.0)
    """How long `initdb` may take: below 1 s on a disk of today, much more on a network volume."""

    # ---- files
    data_dir: Path | None = None
    """Home of the embedded database and the engine's key."""
