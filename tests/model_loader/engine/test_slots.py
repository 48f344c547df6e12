"""Slots: what was read is found again by its owner alone, under the same stretch, and room is never promised twice."""

import pytest
import torch

from model_loader.engine.slots import Slot, Slots, common_length, plan_slots

PROMPT = tuple(range(100, 140))


def read(slot: Slot, ids: tuple[int, ...]) -> None:
    """Puts keys and values that name their ids into a slot, as the model would."""
    start = len(slot.ids)
    for layer in range(2):
        keys = torch.tensor(ids, dtype=torch.float32).reshape(1, -1, 1).expand(3, -1, 4)
        slot.write(layer, torch.stack((keys, -keys)), start)
    slot.ids.extend(ids)


def finished(slots: Slots, ids: tuple[int, ...], owner: str = "a", alpha: float = 1.0, shared: int = 0) -> Slot:
    """A sequence that was read and has ended."""
    slot = slots.take(ids, len(ids), owner, alpha, shared)
    assert slot is not None
    read(slot, ids[len(slot.ids) :])
    slots.release(slot)
    return slot


def test_a_next_turn_begins_where_the_last_one_ended() -> None:
    slots = Slots(4, 1000)
    finished(slots, PROMPT)
    slot = slots.take((*PROMPT, 1, 2), 60, "a", 1.0)
    assert slot is not None
    assert slot.ids == list(PROMPT)
    assert slot.layers[1][0, 0, :40, 0].tolist() == list(PROMPT)


def test_the_last_token_of_a_prompt_is_always_read_for_its_logits() -> None:
    slots = Slots(4, 1000)
    finished(slots, PROMPT)
    slot = slots.take(PROMPT, 60, "a", 1.0)
    assert slot is not None
    assert slot.ids == list(PROMPT[:-1])


def test_an_edited_turn_reuses_what_is_common() -> None:
    slots = Slots(4, 1000)
    finished(slots, PROMPT)
    slot = slots.take((*PROMPT[:30], 7, 8), 60, "a", 1.0)
    assert slot is not None
    assert slot.ids == list(PROMPT[:30])


def test_another_conversation_with_the_same_beginning_leaves_the_first_one_alone() -> None:
    slots = Slots(4, 1000)
    finished(slots, PROMPT)
    second = slots.take((*PROMPT[:10], 7, 8), 60, "a", 1.0)
    assert second is not None
    assert second.ids == list(PROMPT[:10])
    assert second.layers[0][1, 2, :10, 3].tolist() == [-each for each in PROMPT[:10]]
    first = slots.take((*PROMPT, 1), 60, "a", 1.0)
    assert first is not None
    assert first is not second
    assert first.ids == list(PROMPT)


@pytest.mark.parametrize(("owner", "alpha"), [("b", 1.0), ("a", 3.0)])
def test_nothing_is_reused_for_another_owner_or_under_another_stretch(owner: str, alpha: float) -> None:
    slots = Slots(4, 1000)
    finished(slots, PROMPT)
    slot = slots.take((*PROMPT, 1), 60, owner, alpha)
    assert slot is not None
    assert slot.ids == []


def test_the_applications_own_beginning_is_shared_also_from_a_running_slot() -> None:
    slots = Slots(4, 1000)
    running = slots.take(PROMPT, 60, "a", 1.0, 20)
    assert running is not None
    read(running, PROMPT)
    slot = slots.take((*PROMPT, 1), 60, "b", 1.0, 20)
    assert slot is not None
    assert slot is not running
    assert slot.ids == list(PROMPT[:20])
    assert running.ids == list(PROMPT)


def test_a_longer_turn_grows_its_slot() -> None:
    slots = Slots(4, 1000)
    assert finished(slots, PROMPT).capacity < 300
    slot = slots.take((*PROMPT, 1), 300, "a", 1.0)
    assert slot is not None
    assert slot.capacity >= 300
    assert slot.layers[0][0, 0, :40, 0].tolist() == list(PROMPT)
    slots.release(slot)
    assert slots.num_tokens == slot.capacity


def test_the_least_recently_used_goes_first() -> None:
    slots = Slots(2, 1000)
    finished(slots, PROMPT, "a")
    finished(slots, PROMPT, "b")
    finished(slots, (*PROMPT, 1), "a")
    finished(slots, PROMPT, "c")
    known = {}
    for owner in "abc":
        slot = slots.take((*PROMPT, 1, 2), 60, owner, 1.0)
        assert slot is not None
        known[owner] = len(slot.ids)
        slots.release(slot, is_kept=False)
    assert known == {"a": 41, "b": 0, "c": 40}


def test_running_sequences_are_never_pushed_out() -> None:
    slots = Slots(2, 256)
    first = slots.take(PROMPT, 128, "a", 1.0)
    second = slots.take(PROMPT, 128, "b", 1.0)
    assert first is not None
    assert second is not None
    assert slots.take(PROMPT, 64, "c", 1.0) is None
    slots.release(second)
    assert slots.take(PROMPT, 200, "c", 1.0) is None
    assert slots.take(PROMPT, 100, "c", 1.0) is not None


def test_a_slot_that_failed_is_not_kept() -> None:
    slots = Slots(2, 1000)
    slot = slots.take(PROMPT, 60, "a", 1.0)
    assert slot is not None
    read(slot, PROMPT)
    slots.release(slot, is_kept=False)
    assert (slots.num_running, slots.num_tokens) == (0, 0)


def test_common_length_counts_to_the_first_difference() -> None:
    assert common_length((1, 2, 3), (1, 2, 4, 5)) == 2
    assert common_length((1, 2), (1, 2, 3)) == 2
    assert common_length((), (1,)) == 0


def test_a_plan_gives_each_slot_room_and_says_why() -> None:
    plan = plan_slots(12_288, 20_000_000_000, 32_768, is_gpu=False)
    assert plan.num_slots == 8
    assert plan.max_tokens == 8 * 32_768
    assert "8 answers at once" in plan.reason
    assert "262,144 tokens" in plan.reason
    assert "20.0 GB are free" in plan.reason


def test_little_memory_makes_few_slots_and_never_none() -> None:
    plan = plan_slots(524_288, 8_000_000_000, 8192, is_gpu=False)
    assert 1 <= plan.num_slots < 8
    assert plan.max_tokens * 524_288 <= 8_000_000_000
    assert plan_slots(524_288, 0, 8192, is_gpu=True).num_slots == 1
