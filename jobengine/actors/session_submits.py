"""The submits of one session: asked of the gateway without a task each, answered to the session.

I1  Every submit is answered once: by its shard, or for want of time, or because it could not be
    asked; unless the session ends first.
I2  What the door refused of a submit stands in its place among the outcomes.

Not here: how many submits a session may have under way (``core/session``).
"""

from collections.abc import Callable, Sequence

from jobengine.actors.gateway import Gateway
from jobengine.actors.runtime.address import OpenAsk
from jobengine.domain.errors import Refusal
from jobengine.domain.records import NewJob
from jobengine.messages.answers import OutcomeFacts, decode_submit_facts
from jobengine.messages.lease_shard import Actor, JobOutcome, SubmitAnswer
from jobengine.messages.session import Peer, SubmitAnswered, SubmitSaid

__all__ = ["Submits"]


class Submits:
    """``hear`` is told of each answer, within a step of the engine or of `ask`; does not raise."""

    __slots__ = ("_actor", "_asked", "_gateway", "_hear", "_last", "_tenant_id")

    def __init__(
        self, gateway: Gateway, peer: Peer, hear: Callable[[SubmitAnswered], None]
    ) -> None:
        self._gateway = gateway
        self._tenant_id = peer.tenant_id
        self._actor = Actor(peer.subject)
        self._hear = hear
        # By number, in the order in which they will time out: until when, and the ask itself.
        self._asked: dict[int, tuple[float, OpenAsk]] = {}
        self._last = 0

    def ask(self, said: SubmitSaid, mono: float) -> None:
        """Ask for the jobs of a submit; `mono` is the time, in monotonic seconds."""
        jobs = [job for job in said.jobs if isinstance(job, NewJob)]
        if not jobs:
            self._hear(SubmitAnswered(ref=said.ref, outcomes=_merge(said.jobs, ())))
            return
        number = self._last = self._last + 1
        ended = False

        def answered(answer: SubmitAnswer | Refusal) -> None:
            nonlocal ended
            ended = True
            self._asked.pop(number, None)
            self._hear(_answered(said, answer))

        gateway = self._gateway
        asked = gateway.submit_nowait(self._tenant_id, self._actor, jobs, said.claim, answered)
        if asked is not None and not ended:
            self._asked[number] = (mono + gateway.ask_timeout_s, asked)

    def tick(self, mono: float) -> None:
        """Answer those that have waited too long."""
        late = []
        for due, asked in self._asked.values():
            if due > mono:
                break
            late.append(asked)
        for asked in late:
            asked.give_up(self._gateway.ask_timeout_s)

    def forget(self) -> None:
        """The session has ended; what was asked may take effect, and nobody hears of it."""
        for _, asked in self._asked.values():
            asked.forget()
        self._asked.clear()


def _answered(said: SubmitSaid, answer: SubmitAnswer | Refusal) -> SubmitAnswered:
    if isinstance(answer, Refusal):
        return SubmitAnswered(ref=said.ref, refusal=answer)
    outcomes = _merge(said.jobs, _outcomes(answer))
    return SubmitAnswered(ref=said.ref, outcomes=outcomes, backlog=answer.backlog)


def _outcomes(answer: SubmitAnswer) -> Sequence[JobOutcome]:
    if not answer.replayed:
        return answer.outcomes
    assert answer.stored is not None
    return [_outcome(facts) for facts in decode_submit_facts(answer.stored).outcomes]


def _outcome(facts: OutcomeFacts) -> JobOutcome:
    refusal = None if facts.refusal is None else facts.refusal.refusal()
    return JobOutcome(outcome=facts.outcome, job_id=facts.job_id, refusal=refusal)


def _merge(
    jobs: Sequence[NewJob | Refusal], outcomes: Sequence[JobOutcome]
) -> Sequence[JobOutcome]:
    """Outcomes of the jobs that were asked for, with the others' refusals in their places."""
    if len(outcomes) == len(jobs):
        return outcomes
    asked = iter(outcomes)
    return [
        JobOutcome(outcome="rejected", refusal=job) if isinstance(job, Refusal) else next(asked)
        for job in jobs
    ]
