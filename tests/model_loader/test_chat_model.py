"""Messages in, events out, on a real (random) model."""

import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model_loader.chat_format.chatml import Opening
from model_loader.chat_format.messages import Message
from model_loader.chat_model import ChatModel
from model_loader.checkpoint.resolve import Checkpoint
from model_loader.checkpoint.safetensors_header import Weights
from model_loader.defaults import default_sampling, is_completion_model
from model_loader.engine.request import Sampling
from model_loader.errors import (
    CheckpointDamaged,
    CheckpointNotFound,
    ContextLengthExceeded,
    GenerationFailed,
    InvalidSetting,
)
from model_loader.events import Event, Finished, TextDelta, Usage
from model_loader.loading.placement import LoadOptions
from model_loader.open_model import open_chat_model
from model_loader.progress import LoadProgress
from tests.tiny_checkpoint import make_tokenizer, write_tiny_checkpoint

QUESTION = [Message("user", "Tell me about the fox")]
LONG = Sampling(max_new_tokens=60, temperature=1.2, seed=11)


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def checkpoint(generation_config: dict[str, object], context_length: int = 32_768) -> Checkpoint:
    config = {"max_position_embeddings": context_length}
    return Checkpoint("x", Path("/nowhere"), config, generation_config, "", Weights(1, 1, frozenset()))


def test_a_stream_ends_with_exactly_one_finished(tiny_model: ChatModel) -> None:
    events = list(tiny_model.stream(QUESTION, LONG))
    assert isinstance(events[-1], Finished)
    assert sum(isinstance(event, Finished) for event in events) == 1
    assert all(event.text for event in events if isinstance(event, TextDelta))
    assert events[-1].usage.completion_tokens <= 60
    assert events[-1].usage.prompt_tokens > 5


def test_the_same_seed_gives_the_same_answer(tiny_model: ChatModel) -> None:
    first, second, other = (
        text_of(list(tiny_model.stream(QUESTION, LONG.changed(seed=seed)))) for seed in (11, 11, 12)
    )
    assert first == second != other


def test_a_stop_string_ends_the_answer_before_it(tiny_model: ChatModel) -> None:
    whole = text_of(list(tiny_model.stream(QUESTION, LONG)))
    stop = whole[len(whole) // 2 :][:3]
    events = list(tiny_model.stream(QUESTION, LONG, stop=[stop]))
    assert text_of(events) == whole[: whole.index(stop)]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.reason == "stop"
    assert 0 < finished.usage.completion_tokens < 60


def test_a_text_is_continued_without_roles(tiny_model: ChatModel) -> None:
    events = list(tiny_model.complete("The quick brown", LONG))
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.usage.prompt_tokens == len(make_tokenizer().encode("The quick brown").ids)
    assert text_of(events) == text_of(list(tiny_model.complete("The quick brown", LONG)))
    with pytest.raises(InvalidSetting, match="prompt is empty"):
        list(tiny_model.complete("", LONG))


@pytest.mark.parametrize(
    ("generation_config", "is_base"),
    [({"chat_format": "raw", "eos_token_id": 1}, True), ({"chat_format": "chatml", "eos_token_id": 1}, False),
     ({"eos_token_id": [2, 1]}, False), ({"eos_token_id": 1}, True), ({}, True)],
)  # fmt: skip
def test_a_base_checkpoint_is_known_by_its_files(generation_config: dict[str, object], is_base: bool) -> None:
    assert is_completion_model(checkpoint(generation_config), im_end_id=2) is is_base


def test_a_stop_string_at_the_longest_answers_end_is_what_ended_it(tiny_model: ChatModel) -> None:
    events = list(tiny_model.stream(QUESTION, LONG))
    whole, length = text_of(events), events[-1]
    assert isinstance(length, Finished)
    assert length.reason == "length"
    stop = next(whole[-size:] for size in range(1, 20) if whole.index(whole[-size:]) == len(whole) - size)
    *events, stopped = tiny_model.stream(QUESTION, LONG, stop=[stop])
    assert isinstance(stopped, Finished)
    assert (text_of(events), stopped.reason) == (whole[: -len(stop)], "stop")
    assert stopped.usage.completion_tokens == LONG.max_new_tokens


def test_an_empty_stop_string_is_refused(tiny_model: ChatModel) -> None:
    with pytest.raises(InvalidSetting, match="stop string is empty"):
        list(tiny_model.stream(QUESTION, LONG, stop=["x", ""]))


def test_closing_the_stream_frees_the_engine(tiny_model: ChatModel) -> None:
    endless = LONG.changed(max_new_tokens=400, temperature=1.0)
    for _ in range(3):
        with closing(tiny_model.stream(QUESTION, endless)) as events:
            next(events)
    answer = list(tiny_model.stream(QUESTION, LONG))
    assert isinstance(answer[-1], Finished)
    assert answer[-1].usage.queue_s < 1


def test_a_prompt_over_the_window_is_refused_with_both_numbers(tiny_model: ChatModel) -> None:
    with pytest.raises(
        ContextLengthExceeded, match=r"takes 8\d\d tokens and 60 are asked .* reads 512 at most"
    ) as caught:
        list(tiny_model.stream([Message("user", "x" * 800)], LONG))
    assert (caught.value.max_new_tokens, caught.value.context_length) == (60, 512)


def test_whole_oldest_turns_are_left_out_to_fit(tiny_model: ChatModel) -> None:
    turns = [Message("system", "Be brief.")]
    for number in range(6):
        turns += [Message("user", f"{number}" * 60), Message("assistant", f"{number}" * 60)]
    turns.append(Message("user", "last?"))
    fitted = tiny_model.fit(turns, LONG)
    assert fitted.left_out > 0
    assert fitted.left_out % 2 == 0
    assert fitted.messages == (turns[0], *turns[1 + fitted.left_out :])
    list(tiny_model.stream(fitted.messages, LONG))
    with pytest.raises(ContextLengthExceeded):
        list(tiny_model.stream((turns[0], *turns[fitted.left_out - 1 :]), LONG))


def test_a_conversation_that_fits_stays_whole(tiny_model: ChatModel) -> None:
    turns = [Message("user", "a"), Message("assistant", "b"), Message("user", "c")]
    assert tiny_model.fit(turns, LONG).left_out == 0
    assert tiny_model.fit(turns, LONG).messages == tuple(turns)


def test_system_message_and_last_question_are_never_left_out(tiny_model: ChatModel) -> None:
    for messages in (
        [Message("system", "x" * 600), Message("user", "hi")],
        [Message("user", "a"), Message("assistant", "b"), Message("user", "x" * 600)],
    ):
        with pytest.raises(ContextLengthExceeded, match="reads 512 at most"):
            tiny_model.fit(messages, LONG)


def test_readers_are_served_in_turn_and_get_their_own_answers(tiny_model: ChatModel) -> None:
    alone = {seed: text_of(list(tiny_model.stream(QUESTION, LONG.changed(seed=seed)))) for seed in range(4)}
    together: dict[int, str] = {}

    def read(seed: int) -> None:
        together[seed] = text_of(list(tiny_model.stream(QUESTION, LONG.changed(seed=seed))))

    readers = [threading.Thread(target=read, args=(seed,)) for seed in alone]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(20)
    assert together == alone


def test_defaults_come_from_the_generation_config() -> None:
    given = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "repetition_penalty": 1.1}
    assert default_sampling(checkpoint(given)) == Sampling(2048, 0.6, 0.95, 20, repetition_penalty=1.1)


def test_a_config_without_sampling_is_greedy() -> None:
    assert default_sampling(checkpoint({})).temperature == 0


@pytest.mark.parametrize(("window", "asked", "length"), [(32_768, None, 2048), (1024, None, 512), (32_768, 512, 512)])
def test_the_default_length_leaves_half_of_a_small_window(window: int, asked: int | None, length: int) -> None:
    assert default_sampling(checkpoint({"max_new_tokens": asked}, window)).max_new_tokens == length


def test_a_default_out_of_range_names_the_file() -> None:
    with pytest.raises(CheckpointDamaged, match=r"generation_config\.json: top_p is -3"):
        default_sampling(checkpoint({"top_p": -3}))


def test_opening_a_model_reports_every_stage_in_order(tiny_folder: Path) -> None:
    seen: list[LoadProgress] = []
    open_chat_model(str(tiny_folder), LoadOptions(cpu_only=True), seen.append).close()
    assert list(dict.fromkeys(each.stage for each in seen)) == ["download", "libraries", "weights", "warm_up"]


def test_a_model_that_computes_no_numbers_is_refused_at_the_start(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "nan")
    weights = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    weights["model.norm.weight"].fill_(torch.nan)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    before = threading.active_count()
    with pytest.raises(GenerationFailed, match="invalid numbers"):
        open_chat_model(str(folder), LoadOptions(cpu_only=True), lambda progress: None)
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_a_name_that_is_nothing_raises_what_the_resolver_says() -> None:
    with pytest.raises(CheckpointNotFound):
        open_chat_model("/no/such/folder", LoadOptions(), lambda progress: None)


def usage_of(events: list[Event]) -> Usage:
    (finished,) = (event for event in events if isinstance(event, Finished))
    return finished.usage


def test_a_second_turn_is_read_from_where_the_first_one_ended(tiny_model: ChatModel) -> None:
    first = list(tiny_model.stream(QUESTION, LONG, owner="reads once"))
    turns = [*QUESTION, Message("assistant", text_of(first)), Message("user", "And then?")]
    known = usage_of(list(tiny_model.stream(turns, LONG, owner="reads once"))).cached_prompt_tokens
    assert known >= usage_of(first).prompt_tokens
    assert usage_of(list(tiny_model.stream(turns, LONG, owner="somebody else"))).cached_prompt_tokens == 0


def test_a_prefill_is_what_the_answer_goes_on_from(tiny_model: ChatModel) -> None:
    greedy = LONG.changed(temperature=0.0, repetition_penalty=1.0)
    whole = text_of(list(tiny_model.stream(QUESTION, greedy)))
    plain = usage_of(list(tiny_model.stream(QUESTION, greedy))).prompt_tokens
    events = list(tiny_model.stream(QUESTION, greedy, opening=Opening("The fox")))
    assert usage_of(events).prompt_tokens > plain
    assert text_of(events) != whole


def test_the_window_is_what_memory_there_is_for(tiny_model: ChatModel) -> None:
    assert tiny_model.context_length == 512
    assert "at once" in tiny_model.capacity
    assert tiny_model.problem is None
