"""The one way from a door to the engine: requests in domain words, answers or a refusal.

A door translates its own form into a call here and the answer back. What is asked of a tenant goes
to the shard that owns it; reads go to the store; events come from the broadcaster.

I1  Every call ends: with an answer, ``RefusedError``, or ``UnavailableError`` with a time to retry.
I2  A stream has no gap and no repeat: events come in ``seq`` order from one cursor.

Not here: authentication, JSON (``http``), decisions (``core``), runs (``run_gateway``).
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

import attrs
import msgspec

from jobengine.actors.asking import Asking, UnavailableError
from jobengine.actors.broadcaster import Streams
from jobengine.actors.node_state import LedgerState, LoadState
from jobengine.actors.reading import read_events
from jobengine.actors.run_gateway import RunGateway
from jobengine.actors.runtime.address import Address, OpenAsk
from jobengine.actors.runtime.clock import Clock
from jobengine.actors.runtime.dice import Dice
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.event_batch import Batch
from jobengine.domain.event_filter import EVERYTHING, EventFilter
from jobengine.domain.governance import SYSTEM_TENANT
from jobengine.domain.ids import shard_of
from jobengine.domain.records import NewJob
from jobengine.domain.webhook import Webhook
from jobengine.messages.admission import (
    ChangeControl,
    ControlAnswer,
    Explain,
    ExplainAnswer,
    Explanation,
    GatesAnswer,
    LearnRate,
    OperateBreaker,
    ReadGates,
)
from jobengine.messages.governor import GovernanceAnswer, ReadGovernance
from jobengine.messages.lease_shard import (
    Actor,
    AdministerAnswer,
    AdministerTenant,
    DrainWorker,
    IdempotencyClaim,
    ListWorkers,
    OperateAnswer,
    Operation,
    SubmitAnswer,
    SubmitJobs,
    WorkersAnswer,
)
from jobengine.messages.notifier import (
    Attempt,
    DeliveriesAnswer,
    Delivery,
    ReadDeliveries,
    TestWebhook,
    WebhookChanged,
    WebhookDropped,
)
from jobengine.messages.redriver import ChangeRedrive, RedriveAnswer, StartRedrive
from jobengine.store.port import Store

__all__ = ["Gateway", "UnavailableError"]

_AHEAD_MAX = 10_000


@attrs.define
class Gateway:
    """``ask_timeout_s`` bounds every wait for a decision and its commit; ``runs`` has what concerns
    runs and registered documents. Shards and planners stand in the order of ``shard_of``."""

    shards: Sequence[Address[object]]
    planners: Sequence[Address[object]]
    streams: Streams
    redriver: Address[object]
    governor: Address[object]
    notifier: Address[object]
    store: Store
    ledger: LedgerState
    clock: Clock
    dice: Dice
    ask_timeout_s: float
    load: LoadState = attrs.field(factory=LoadState)
    runs: RunGateway = attrs.field(init=False)
    _asking: Asking = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._asking = Asking(self.ledger, self.load, self.ask_timeout_s)
        self.runs = RunGateway(
            asking=self._asking,
            shards=self.shards,
            planners=self.planners,
            store=self.store,
            clock=self.clock,
            dice=self.dice,
        )

    async def submit(
        self,
        tenant_id: str,
        actor: Actor,
        jobs: Sequence[NewJob],
        claim: IdempotencyClaim | None = None,
    ) -> SubmitAnswer:
        """Create jobs in one commit; returns after it, with an outcome a job in their order."""
        self._refuse_system(tenant_id)
        self.check_new_work()
        answer = await self._ask(
            tenant_id,
            lambda ask_id: SubmitJobs(
                ask_id=ask_id, tenant_id=tenant_id, actor=actor, jobs=jobs, claim=claim
            ),
        )
        assert isinstance(answer, SubmitAnswer)
        return answer

    def submit_nowait(
        self,
        tenant_id: str,
        actor: Actor,
        jobs: Sequence[NewJob],
        claim: IdempotencyClaim | None,
        answered: Callable[[SubmitAnswer | Refusal], None],
    ) -> OpenAsk | None:
        """Like `submit`, but the answer is called back: once, within a step of the engine.

        What cannot be asked is answered before this returns, which is None then. The caller bounds
        the time: `ask_timeout_s`. `answered` does not raise.
        """

        try:
            self._refuse_system(tenant_id)
            self.check_new_work()
        except (UnavailableError, RefusedError) as error:
            answered(error.refusal)
            return None
        return self._asking.ask_nowait(
            self.shard(tenant_id),
            lambda ask_id: SubmitJobs(
                ask_id=ask_id, tenant_id=tenant_id, actor=actor, jobs=jobs, claim=claim
            ),
            answered,
        )

    def _refuse_system(self, tenant_id: str) -> None:
        if tenant_id == SYSTEM_TENANT:
            raise RefusedError(
                Refusal(
                    ErrorCode.TENANT_FORBIDDEN,
                    f"{SYSTEM_TENANT} is the platform's tenant and has no jobs; name another",
                    {"path": "X-Stella-Tenant"},
                )
            )

    def check_new_work(self) -> None:
        """Raises `UnavailableError` while the node takes no new work."""
        self._asking.check_new_work()

    async def operate(self, tenant_id: str, build: Callable[[int], Operation]) -> OperateAnswer:
        """Carry out an operation that ``build`` makes of an ask id; returns after its commit."""
        answer = await self._ask(tenant_id, build)
        assert isinstance(answer, OperateAnswer)
        return answer

    async def administer(
        self, tenant_id: str, build: Callable[[int], AdministerTenant | DrainWorker]
    ) -> AdministerAnswer:
        """Change something of a tenant that is no job's; returns after the commit."""
        answer = await self._ask(tenant_id, build)
        assert isinstance(answer, AdministerAnswer)
        return answer

    async def redrive(
        self, tenant_id: str, build: Callable[[int], StartRedrive | ChangeRedrive]
    ) -> RedriveAnswer:
        """Begin or change a redrive; returns after the commit."""
        answer = await self._ask(tenant_id, build, self.redriver)
        assert isinstance(answer, RedriveAnswer)
        return answer

    async def workers(self, tenant_id: str, build: Callable[[int], ListWorkers]) -> WorkersAnswer:
        """Workers of a tenant that are attached now."""
        answer = await self._ask(tenant_id, build)
        assert isinstance(answer, WorkersAnswer)
        return answer

    async def change_control(
        self, tenant_id: str, build: Callable[[int], ChangeControl]
    ) -> ControlAnswer:
        """Set or take away a control; returns after the commit."""
        answer = await self._ask(tenant_id, build)
        assert isinstance(answer, ControlAnswer)
        return answer

    async def gates(
        self, tenant_id: str, build: Callable[[int], OperateBreaker | LearnRate | ReadGates]
    ) -> GatesAnswer:
        """Where a tenant's gates stand, after a change of one if there is any."""
        answer = await self._ask(tenant_id, build)
        assert isinstance(answer, GatesAnswer)
        return answer

    async def governance(self) -> GovernanceAnswer:
        """The policy across tenants that is in force, and what each has now."""
        answer = await self._ask(
            SYSTEM_TENANT, lambda ask_id: ReadGovernance(ask_id=ask_id), self.governor
        )
        assert isinstance(answer, GovernanceAnswer)
        return answer

    async def webhook_deliveries(
        self, tenant_id: str, webhook_ids: Sequence[str]
    ) -> Mapping[str, Delivery]:
        """How far webhooks of a tenant have come, by id; unknown ones are left out."""
        answer = await self._ask(
            tenant_id,
            lambda ask_id: ReadDeliveries(
                ask_id=ask_id, tenant_id=tenant_id, webhook_ids=webhook_ids
            ),
            self.notifier,
        )
        assert isinstance(answer, DeliveriesAnswer)
        return answer.deliveries

    async def test_webhook(self, tenant_id: str, webhook_id: str) -> Attempt:
        """Send an event that is no part of the ledger, now and once; returns what became of it.
        Raises ``RefusedError`` for a webhook that the notifier does not know."""
        answer = await self._ask(
            tenant_id,
            lambda ask_id: TestWebhook(ask_id=ask_id, tenant_id=tenant_id, webhook_id=webhook_id),
            self.notifier,
        )
        assert isinstance(answer, Attempt)
        return answer

    def webhook_changed(self, webhook: Webhook) -> None:
        """A webhook is like this in the store, after the commit that made it so."""
        self.notifier.deliver(WebhookChanged(webhook=webhook))

    def webhook_dropped(self, tenant_id: str, webhook_id: str) -> None:
        """A webhook is no longer in the store, after the commit that took it away."""
        self.notifier.deliver(WebhookDropped(tenant_id=tenant_id, webhook_id=webhook_id))

    async def explain(self, tenant_id: str, job_ids: Sequence[str]) -> Sequence[Explanation]:
        """Why these jobs do not start, in their order; unknown ones are left out."""
        answer = await self._ask(
            tenant_id,
            lambda ask_id: Explain(ask_id=ask_id, tenant_id=tenant_id, job_ids=job_ids),
        )
        assert isinstance(answer, ExplainAnswer)
        found = [await self._with_position(each) for each in answer.jobs]
        return await self.runs.explain(tenant_id, found)

    async def explain_queue(
        self, tenant_id: str, queue: str, jobs_max: int
    ) -> Sequence[Explanation]:
        """Why the first jobs in memory that wait in this queue do not start, in their order."""
        answer = await self._ask(
            tenant_id,
            lambda ask_id: Explain(
                ask_id=ask_id, tenant_id=tenant_id, queue=queue, jobs_max=jobs_max
            ),
        )
        assert isinstance(answer, ExplainAnswer)
        return [await self._with_position(each) for each in answer.jobs]

    async def _with_position(self, explanation: Explanation) -> Explanation:
        """Count those ahead that are only in the store, too."""
        if explanation.place is None:
            return explanation
        lane, rank = explanation.place
        ahead = await self.store.jobs_ahead(
            lane, (rank, explanation.job_id), self.clock.moment().at, _AHEAD_MAX
        )
        position = max(ahead + 1, explanation.position or 0)
        return msgspec.structs.replace(explanation, position=position)

    def new_id(self) -> str:
        """A fresh UUIDv7; later ones sort behind it."""
        return self.dice.uuid7(self.clock.moment().at)

    def new_job_ids(self, count: int) -> list[str]:
        """Fresh UUIDv7 job ids in increasing order."""
        return self.dice.uuid7s(self.clock.moment().at, count)

    def shard(self, tenant_id: str) -> Address[object]:
        return self.shards[shard_of(tenant_id, len(self.shards))]

    def events(
        self, tenant_id: str, after_seq: int, wanted: EventFilter = EVERYTHING
    ) -> AsyncGenerator[Batch, None]:
        """A tenant's events after a cursor, batch by batch, for ever; a batch may hold none, which
        says how far the ledger has been looked at. Waits while the database is away.

        Use it within ``aclosing``: its place among the readers is given up when it is closed.
        """
        return read_events(self.streams, tenant_id, after_seq, wanted)

    async def _ask(
        self,
        tenant_id: str,
        build: Callable[[int], object],
        owner: Address[object] | None = None,
    ) -> object:
        """Ask the owner of a decision, which is the tenant's shard unless another is named."""
        return await self._asking.ask(owner or self.shard(tenant_id), build)
