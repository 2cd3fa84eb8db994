"""Dead letters and redrives in memory: what the database is held against."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import msgspec
import trio

from jobengine.domain.change import DeadLetterRow, DeadLetterState
from jobengine.domain.redrive import UNFINISHED, Redrive
from jobengine.store.memory.tables import Tables
from jobengine.store.port import DeadLetterFilter, LetterGroup, LetterGroups

__all__ = ["MemoryLetters"]


class MemoryLetters:
    """Dead letters and redrives of `jobengine.store.port.Store`, over a memory store's tables."""

    _tables: Tables

    async def dead_letters(
        self,
        tenant_id: str,
        wanted: DeadLetterFilter,
        after: tuple[int, str] | None,
        letters_max: int,
    ) -> Sequence[DeadLetterRow]:
        await trio.lowlevel.checkpoint()
        found = [
            (letter.at, letter_id)
            for (tenant, letter_id), letter in self._tables.letters.items()
            if tenant == tenant_id and letter.at is not None and _matches(letter, wanted)
            if after is None or (letter.at, letter_id) < after
        ]
        page = sorted(found, reverse=True)[:letters_max]
        return [
            msgspec.structs.replace(self._tables.letters[tenant_id, letter_id])
            for _, letter_id in page
        ]

    async def dead_letter(self, tenant_id: str, dead_letter_id: str) -> DeadLetterRow | None:
        await trio.lowlevel.checkpoint()
        letter = self._tables.letters.get((tenant_id, dead_letter_id))
        return None if letter is None else msgspec.structs.replace(letter)

    async def dead_letter_groups(
        self, tenant_id: str, wanted: DeadLetterFilter, letters_max: int, groups_max: int
    ) -> LetterGroups:
        await trio.lowlevel.checkpoint()
        open_only = wanted.states == {DeadLetterState.OPEN}
        letters = [
            letter
            for (tenant, _), letter in self._tables.letters.items()
            if tenant == tenant_id and (not open_only or letter.state == DeadLetterState.OPEN)
        ]
        letters.sort(key=lambda letter: (letter.at or 0, letter.dead_letter_id), reverse=True)
        seen = letters[:letters_max]
        matching = [letter for letter in seen if _matches(letter, wanted)]
        return _group_letters(matching, looked_at=len(seen), groups_max=groups_max)

    async def redrives(
        self, tenant_id: str, after: str | None, redrives_max: int
    ) -> Sequence[Redrive]:
        await trio.lowlevel.checkpoint()
        found = [
            redrive
            for (tenant, redrive_id), redrive in self._tables.redrives.items()
            if tenant == tenant_id and (after is None or redrive_id < after)
        ]
        found.sort(key=lambda redrive: redrive.redrive_id, reverse=True)
        return found[:redrives_max]

    async def redrive(self, tenant_id: str, redrive_id: str) -> Redrive | None:
        await trio.lowlevel.checkpoint()
        return self._tables.redrives.get((tenant_id, redrive_id))

    async def redrives_unfinished(
        self, after: tuple[str, str] | None, redrives_max: int
    ) -> Sequence[Redrive]:
        await trio.lowlevel.checkpoint()
        found = sorted(
            (
                item
                for item in self._tables.redrives.items()
                if item[1].state in UNFINISHED and (after is None or item[0] > after)
            ),
            key=lambda item: item[0],
        )
        return [redrive for _, redrive in found[:redrives_max]]


def _matches(letter: DeadLetterRow, wanted: DeadLetterFilter) -> bool:
    return (
        (not wanted.states or letter.state in wanted.states)
        and wanted.job_type in (None, letter.job_type)
        and wanted.queue in (None, letter.queue)
        and wanted.class_ in (None, letter.class_)
        and wanted.signature in (None, letter.signature)
    )


def _group_letters(
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
