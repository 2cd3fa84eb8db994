"""Bounds and periods of a lease shard. Not here: where they are set (``settings.py``)."""

import attrs

__all__ = ["ShardLimits"]


@attrs.frozen(kw_only=True)
class ShardLimits:
    """Bounds and periods of one shard; their reasons stand in ``settings.py``.

    ``idle_kinds_max``: records of kinds that no job holds places of; one is about a kilobyte, and
    is made anew in a few microseconds.
    ``slice_jobs``: how many jobs of a large change are decided in one go, one to two milliseconds.
    ``line_messages_max``: how many messages of a tenant may wait meanwhile before its requests are
    refused.
    ``offered_lanes_max``: of how many lanes it is remembered what they offer, about half a kilobyte
    each; others are looked at whenever somebody asks for them.
    ``waiting_requests_max``: how many requests may wait for one unique key, or for one job.
    """

    ageing_us: int = 60_000_000
    cancel_grace_s: float = 30.0
    crashes_max: int = 3
    demand_interval_s: float = 0.05
    due_jobs_max: int = 2_000
    idle_kinds_max: int = 10_000
    job_log_bytes_max: int = 10 << 20
    fresh_bytes_max: int = 16 << 20
    lane_bytes_max: int = 8 << 20
    lane_jobs_max: int = 4_000
    line_messages_max: int = 1_000
    offered_lanes_max: int = 40_000
    outcomes_max: int = 20_000
    parked_jobs_max: int = 20_000
    progress_interval_s: float = 1.0
    rate_pause_us: int = 10_000
    read_retry_s: float = 1.0
    slice_jobs: int = 64
    tenant_backlog_jobs_max: int = 5_000_000
    tenant_controls_max: int = 10_000
    tenant_lanes_max: int = 10_000
    waiting_requests_max: int = 64
    window_jobs_max: int = 20_000

    def stride(self, count: int) -> int:
        """How many of so many jobs are decided in one go: all, unless they make two slices."""
        return self.slice_jobs if count > 2 * self.slice_jobs else max(1, count)
