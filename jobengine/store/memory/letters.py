"""Dead letters of the memory store, counted by what they have in common."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from jobengine.domain.change import DeadLetterRow, DeadLetterState
from jobengine.store.port import LetterGroup, LetterGroups

__all__ = ["group_letters"]


def group_letters(
    letters: Sequence[DeadLetterRow], *, looked_at: int, groups_max: int
) -> LetterGroups:
    """``letters`` stand newest first."""

    def by(
        value_of: Callable[[DeadLetterRow], str | None], *, with_newest: bool = False
    ) -> list[LetterGroup]:
        groups: defaultdict[str, list[DeadLetterRow]] = defaultdict(list)
        for letter in letters:
            groups[value_of(letter) or ""].append(letter)
        found = [_group(value, group, with_newest) for value, group in groups.items()]
        return sorted(found, key=lambda group: (-group.letters, group.value))[:groups_max]

    return LetterGroups(
        looked_at=looked_at,
        letters=len(letters),
        open=_open(letters),
        by_state=by(lambda letter: letter.state),
        by_class=by(lambda letter: letter.class_),
        by_job_type=by(lambda letter: letter.job_type),
        by_queue=by(lambda letter: letter.queue),
        by_signature=by(lambda letter: letter.signature, with_newest=True),
    )


def _group(value: str, letters: Sequence[DeadLetterRow], with_newest: bool) -> LetterGroup:
    return LetterGroup(
        value,
        len(letters),
        _open(letters),
        letters[-1].at or 0,
        letters[0].at or 0,
        letters[0].dead_letter_id if with_newest else None,
    )


def _open(letters: Sequence[DeadLetterRow]) -> int:
    return sum(letter.state == DeadLetterState.OPEN for letter in letters)
