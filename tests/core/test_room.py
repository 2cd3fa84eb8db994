"""Room: how much there is, and how much of it one owner gets."""

from hypothesis import given
from hypothesis import strategies as st

from jobengine.core.room import Room

MOVES = st.lists(st.tuples(st.booleans(), st.sampled_from("abc")))


@given(st.integers(1, 9), MOVES)
def test_no_owner_goes_beyond_half_and_all_stay_within_the_whole(
    places_max: int, moves: list[tuple[bool, str]]
) -> None:
    room = Room(places_max)
    held = dict.fromkeys("abc", 0)
    for enters, owner in moves:
        if not enters and held[owner]:
            room.leave(owner)
            held[owner] -= 1
        elif enters and not room.is_full_for(owner):
            room.enter(owner)
            held[owner] += 1
        assert room.taken == sum(held.values()) <= places_max
        assert room.is_full == (room.taken == places_max)
        for each, count in held.items():
            assert count <= max(1, places_max // 2)
            assert room.is_full_for(each) == (room.is_full or count == max(1, places_max // 2))
        assert set(room._by_owner) == {each for each, count in held.items() if count}
