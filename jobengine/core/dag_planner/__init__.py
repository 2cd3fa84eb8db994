"""The core of a DAG planner; see ``machine``."""

from jobengine.core.dag_planner.machine import DagPlanner, PlannerLimits

__all__ = ["DagPlanner", "PlannerLimits"]
