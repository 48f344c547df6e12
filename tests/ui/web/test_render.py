"""What the Chatbot is given for a conversation."""

from typing import Any

from model_loader.events import Usage
from model_loader.progress import LoadProgress
from ui.chat.answer import AnswerStatus
from ui.chat.conversation import Conversation
from ui.web.fragments import fill
from ui.web.render import Transcript, figures, live_text


def answered(conversation: Conversation, question: str, answer: str, **facts: Any) -> str:
    message = conversation.start_answer(conversation.add_user(question).id)
    conversation.grow(message.id, answer)
    conversation.amend(message.id, **{"state": "complete", **facts})
    return message.id


def texts(shown: list[dict[str, Any]]) -> list[str]:
    return [block["text"] for message in shown for block in message["content"]]


def test_texts_are_blocks_so_that_indentation_survives() -> None:
    conversation = Conversation("owner")
    answered(conversation, "    four\n\ttab", "a")
    shown = Transcript("en").render(conversation, None, 60)
    assert shown[0]["role"] == "user"
    assert all(set(block) == {"type", "text"} for block in shown[0]["content"])
    assert shown[0]["content"][0]["text"].startswith("    four")


def test_only_the_newest_messages_are_shown_from_a_question_on() -> None:
    conversation = Conversation("owner")
    for number in range(5):
        answered(conversation, f"q{number}", f"a{number}")
    shown = Transcript("en").render(conversation, None, 5)
    assert "Show 6 earlier messages" in texts(shown)[0]
    assert texts(shown)[1] == "q3"


def test_a_running_answer_has_no_actions_and_an_ended_one_has_them() -> None:
    conversation = Conversation("owner")
    message = conversation.start_answer(conversation.add_user("q").id)
    transcript = Transcript("en")
    live = texts(transcript.render(conversation, None, 60))[-1]
    assert 'class="foot live"' in live
    assert "act-" not in live
    conversation.grow(message.id, "a")
    conversation.amend(message.id, state="stopped")
    ended = texts(transcript.render(conversation, None, 60))[-1]
    assert f"act-copy id-{message.id}" in ended
    assert f"act-again id-{message.id}" in ended
    assert "Stopped" in ended


def test_an_answer_that_was_turned_shows_its_source_and_nothing_of_it_is_read_as_markup() -> None:
    conversation = Conversation("owner")
    source = "**a** $x$\n\n\t<b> %%%LATEX_BLOCK_0%%% \u2060"
    message = answered(conversation, "q", source)
    transcript = Transcript("en")
    rendered = texts(transcript.render(conversation, None, 60))
    turned = texts(transcript.render(conversation, None, 60, frozenset([message])))
    assert turned[2] == ('<pre class="source">**a** &#36;x&#36;&#10;&#10;\t&lt;b&gt; %%%\u2060LATEX_BLOCK_0%%% </pre>')
    assert f"act-source id-{message} is-on" in turned[3]
    assert texts(transcript.render(conversation, None, 60)) == rendered
    assert f"act-source id-{message} is-off" in rendered[3]


def test_only_the_last_answer_can_be_repeated() -> None:
    conversation = Conversation("owner")
    first, second = answered(conversation, "q", "a"), answered(conversation, "r", "b")
    shown = "".join(texts(Transcript("en").render(conversation, None, 60)))
    assert f"act-again id-{second}" in shown
    assert f"act-again id-{first}" not in shown
    assert f"act-copy id-{first}" in shown


def test_an_answer_that_ended_is_not_rendered_again() -> None:
    conversation = Conversation("owner")
    answered(conversation, "q", "a")
    answered(conversation, "r", "b")
    transcript = Transcript("en")
    before, after = (transcript.render(conversation, None, 60) for _ in range(2))
    assert all(one is other for one, other in zip(before, after, strict=True))


def test_reasoning_is_a_part_of_its_own_that_folds_when_it_is_over() -> None:
    conversation = Conversation("owner")
    message = conversation.start_answer(conversation.add_user("q").id)
    conversation.grow(message.id, reasoning="hm")
    transcript = Transcript("en")
    assert transcript.render(conversation, None, 60)[1]["metadata"] == {"title": "Thinking", "status": "pending"}
    conversation.amend(message.id, reasoning_s=2.34)
    assert transcript.render(conversation, None, 60)[1]["metadata"] == {"title": "Thought for 2.3 s", "status": "done"}


def test_a_failure_is_escaped() -> None:
    conversation = Conversation("owner")
    answered(conversation, "q", "", state="failed", error="<img src=x>\n\n# no heading")
    shown = texts(Transcript("en").render(conversation, None, 60))[-1]
    assert "&lt;img src=x&gt;&#10;&#10;# no heading" in shown


def test_the_place_where_the_model_begins_to_read_is_marked() -> None:
    conversation = Conversation("owner")
    answered(conversation, "q0", "a0")
    answered(conversation, "q1", "a1")
    reads_from = conversation.path()[2].id
    answered(conversation, "q2", "a2", left_out=2, reads_from=reads_from)
    shown = texts(Transcript("en").render(conversation, None, 60))
    divider = next(position for position, text in enumerate(shown) if "divider" in text)
    assert "The 2 messages above" in shown[divider]
    assert shown[divider + 1] == "q1"


def test_figures_name_tokens_speed_and_the_first_token() -> None:
    conversation = Conversation("owner")
    usage = Usage(10, 101, 0, 0.0, 0.5, 4.0)
    answered(conversation, "q", "a", usage=usage, finish_reason="length")
    assert figures("en", conversation.path()[-1]) == [
        "101 tokens",
        "25.0 tokens/s",
        "first after 0.50 s",
        "cut at the longest answer",
    ]


def test_figures_name_what_was_known_from_before() -> None:
    conversation = Conversation("owner")
    answered(conversation, "q", "a", usage=Usage(1500, 1, 1480, 0.0, 0.5, 0.0))
    assert figures("en", conversation.path()[-1])[-1] == "1,480 known from before"


def test_a_single_token_has_no_speed() -> None:
    conversation = Conversation("owner")
    answered(conversation, "q", "a", usage=Usage(10, 1, 0, 0.0, 0.5, 0.0))
    assert figures("en", conversation.path()[-1]) == ["1 token", "first after 0.50 s"]


def test_the_live_line_says_what_is_waited_for() -> None:
    assert live_text("en", AnswerStatus("queued", 2, waiting=3)) == "Place 2 of 3 in the queue"
    assert live_text("zh", AnswerStatus("loading", progress=LoadProgress("weights", 0.5))) == "正在读取权重 50%"
    assert live_text("en", AnswerStatus("loading", progress=LoadProgress("libraries"))) == "Starting"
    assert live_text("en", AnswerStatus("reading")) == "Reading"
    reading = AnswerStatus("reading", tokens_read=1200, tokens=1830)
    assert live_text("en", reading) == "Reading 1,200 of 1,830 tokens"
    assert live_text("ja", reading) == "1,830 トークン中 1,200 まで読みました"


def test_a_text_in_a_fragment_is_escaped_and_a_fragment_is_not() -> None:
    fact = fill("fact", text="<b>")
    assert fact == '<span class="fact">&lt;b&gt;</span>'
    assert fact in fill("foot", id="x", actions=fact, facts=fill("fact", text="&"))
