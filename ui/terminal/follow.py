"""Shows one answer while it is being written, and what it cost when it has ended.

What comes in is a `Running` answer; Ctrl-C ends it with what it has. It knows neither commands nor prompts.
"""

from typing import TextIO

from ui.terminal.notices import Notices
from ui.terminal.prompt import keyboard_at_rest
from ui.terminal.render import AnswerOutput, MarkdownAnswer, PlainAnswer, answer_console, is_dumb
from ui.terminal.signals import Signals
from ui.terminal.talk import Ending, Running, Talk

_LOOK_S = 0.02
_ENDS_S = 3.0


class OutputLost(Exception):
    """The answer cannot be written to its stream.

    Attributes:
        reason: what the system says.
    """

    def __init__(self, reason: OSError) -> None:
        self.reason = reason
        super().__init__(str(reason))


def follow(
    running: Running, talk: Talk, notices: Notices, signals: Signals, stream: TextIO, *, tells_failure: bool = True
) -> Ending:
    """Writes the answer to a stream until it has ended; returns how, and tells it. Ctrl-C stops it, an earlier one too.

    Args:
        tells_failure: whether an error of the model is told; otherwise that is the caller's business.

    Raises:
        OutputLost: the stream cannot be written; the answer is ended.
    """
    output: AnswerOutput = PlainAnswer(stream)
    if talk.is_markdown and stream.isatty() and not is_dumb():
        output = MarkdownAnswer(answer_console(stream))
    try:
        with keyboard_at_rest():
            _show(running, talk, notices, signals, output)
    except OSError as error:
        running.stop()
        raise OutputLost(error) from error
    signals.forget_interrupt()
    ending = running.ending
    if tells_failure or not ending.error:
        _tell(ending, notices, has_text=bool(running.text))
    return ending


def _show(running: Running, talk: Talk, notices: Notices, signals: Signals, output: AnswerOutput) -> None:
    num_shown = num_thought = 0
    is_ending = has_ended = False
    while not has_ended:
        has_ended = running.wait(_LOOK_S)  # before looking, so that the last piece is shown
        thought, text = running.reasoning, running.text
        if len(thought) > num_thought:
            notices.think(thought[num_thought:])
            num_thought = len(thought)
        if len(text) > num_shown:
            notices.end_thinking()
            notices.clear_status()
            output.add(text[num_shown:])
            num_shown = len(text)
        elif not text and not thought:
            notices.status(running.status)
        output.draw()
        if signals.must_end and not is_ending:
            is_ending = True
            talk.close(_ENDS_S)
        elif signals.is_interrupted and not is_ending:
            is_ending = True
            running.stop()
    notices.end_thinking()
    notices.clear_status()
    output.end()


def _tell(ending: Ending, notices: Notices, *, has_text: bool) -> None:
    if ending.state == "failed":
        known = ending.error or f"Something went wrong in this program. Its log names this fault {ending.fault_id}."
        notices.warn(known)
    elif ending.state != "complete":
        notices.say("Stopped; what is there is kept." if has_text else "Stopped.")
    if ending.finish_reason == "length":
        notices.say("The answer is cut: it reached max_new_tokens; :conf max_new_tokens=N lets the next one be longer.")
    if ending.left_out:
        notices.say(f"The oldest {ending.left_out} messages had no room in the window and were left out.")
    if facts := _facts(ending):
        notices.say(" · ".join(facts))


def _facts(ending: Ending) -> list[str]:
    usage = ending.usage
    if usage is None:
        return []
    facts = [f"{usage.completion_tokens:,} token{'s' * (usage.completion_tokens != 1)}"]
    if usage.tokens_per_s is not None:
        facts.append(f"{usage.tokens_per_s:.1f} tokens/s")
    facts.append(f"first after {usage.first_token_s:.2f} s")
    if usage.cached_prompt_tokens:
        facts.append(f"{usage.cached_prompt_tokens:,} tokens not read again")
    return facts
