"""What shrinking leaves, and what coverage counts."""

from jobengine.testing.sim.coverage import Coverage
from jobengine.testing.sim.messages import Outcome, Request
from jobengine.testing.sim.scenario import Scenario
from jobengine.testing.sim.shrink import form_of, shrink

STRUCK = ("crash.engine", "link.cut", "store.outage", "worker.late")


async def test_only_what_the_failure_needs_is_left() -> None:
    shrunk = await shrink(Request(seed=5, scenario=Scenario()), needs_an_outage, tries_max=500)
    assert shrunk is not None
    scenario = shrunk.request.scenario
    assert scenario.sites == ("store.outage",)
    assert (scenario.jobs, scenario.workers, scenario.tenants) == (7, 1, 1)
    assert (scenario.readers, scenario.runs) == (0, 0)
    assert not scenario.operators
    assert scenario.faults_s <= 10
    assert form_of(shrunk.outcome.violation or "") == form_of("#12: 7 jobs are lost")


async def test_another_failure_than_the_first_is_no_smaller_one_of_it() -> None:
    async def fails_otherwise(request: Request) -> Outcome:
        whole = request.scenario == Scenario()
        return outcome(request, "a job is lost" if whole else "a reader waits")

    shrunk = await shrink(Request(seed=5, scenario=Scenario()), fails_otherwise, tries_max=500)
    assert shrunk is not None
    assert shrunk.request == Request(seed=5, scenario=Scenario())


async def test_no_more_runs_are_made_than_allowed_and_none_for_a_clean_seed() -> None:
    shrunk = await shrink(Request(seed=5, scenario=Scenario()), needs_an_outage, tries_max=9)
    assert shrunk is not None
    assert shrunk.tries == 9
    calm = Request(seed=5, scenario=Scenario(sites=()))
    assert await shrink(calm, needs_an_outage, tries_max=9) is None


def test_coverage_names_sites_and_states_that_never_met() -> None:
    coverage = Coverage(("link.cut", "crash.engine", "store.outage"))
    for _ in range(2):
        coverage.add(
            Outcome(
                seed=1, digest="d", violation=None,
                chances=[("link.cut", "ack", 5), ("link.cut", "lease", 1), ("crash.engine", "", 3)],
                strikes=[("link.cut", "ack", 2)],
            )
        )  # fmt: skip
    assert coverage.never == ("crash.engine", "store.outage")
    assert coverage.unmet == [("link.cut", "lease")]
    assert coverage.rows()[1] == ("link.cut", 12, 4, "ack:4")
    document = coverage.document()
    assert document["sites"]["link.cut"]["states"]["lease"] == {"chances": 2, "strikes": 0}
    assert document["sites"]["store.outage"]["chances"] == 0


async def needs_an_outage(request: Request) -> Outcome:
    """Fails where the database can go away under seven jobs or more."""
    scenario = request.scenario
    fails = "store.outage" in scenario.sites and scenario.jobs >= 7
    return outcome(request, f"#{request.seed}: {scenario.jobs} jobs are lost" if fails else None)


def outcome(request: Request, violation: str | None) -> Outcome:
    strikes = [(site, "", 1) for site in request.scenario.sites if site in STRUCK]
    return Outcome(seed=request.seed, digest="d", violation=violation, strikes=strikes)
