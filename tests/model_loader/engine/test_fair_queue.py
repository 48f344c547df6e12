"""Owners take turns, whatever each of them has waiting."""

from model_loader.engine.fair_queue import FairQueue


def filled(*items: str) -> FairQueue[str]:
    """Items such as "a1", of owner "a"."""
    queue: FairQueue[str] = FairQueue()
    for item in items:
        queue.put(item[0], item)
    return queue


def drained(queue: FairQueue[str]) -> list[str]:
    return [queue.take() for _ in range(len(queue))]


def test_one_owner_is_served_in_order() -> None:
    assert drained(filled("a1", "a2", "a3")) == ["a1", "a2", "a3"]


def test_fifty_requests_of_one_owner_do_not_hold_up_another() -> None:
    queue = filled(*(f"a{number}" for number in range(50)), "b0", "b1")
    assert drained(queue)[:4] == ["a0", "b0", "a1", "b1"]


def test_the_order_told_is_the_order_served() -> None:
    queue = filled("a1", "a2", "b1", "a3", "c1", "b2")
    told = list(queue)
    assert told == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert queue.first() == "a1"
    assert drained(queue) == told
    assert queue.first() is None


def test_an_item_that_leaves_is_gone_and_others_move_up() -> None:
    queue = filled("a1", "b1", "a2")
    queue.remove("a1")
    queue.remove("a1")
    assert list(queue) == ["a2", "b1"]
    queue.remove("b1")
    assert drained(queue) == ["a2"]
