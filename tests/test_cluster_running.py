"""Who gets calls is known where a router heard it, and nowhere else."""

import asyncio

from stt.cluster import running


async def test_a_replica_is_within_reach_as_long_as_it_gets_calls():
    told: list[set[str]] = []
    running.watch("a", told.append)
    running.tell("a", {"one": 1, "two": 2})
    assert running.within_reach("a", "two") == 2
    assert running.within_reach("b", "two") is None
    running.tell("a", {"one": 1})
    running.tell("b", {"two": 2})
    assert running.within_reach("a", "two") is None
    assert running.within_reach("b", "two") == 2
    assert told == [{"one", "two"}, {"one"}]


async def test_connections_of_another_event_loop_are_out_of_reach():
    async def elsewhere() -> object:
        running.tell("c", {"one": "theirs"})
        return running.within_reach("c", "one")

    running.tell("c", {"one": "ours"})
    assert await asyncio.to_thread(asyncio.run, elsewhere()) == "theirs"
    assert running.within_reach("c", "one") == "ours"
