"""Measures a checkpoint on questions that were never trained on, and prints a table and one JSON line.

    python -m model_loader.builtin.evaluate [--checkpoint FOLDER] [--show-wrong]

Replies are greedy and generated in batches with padding on the left. What is asked and what counts as right is
`cases`; here it is run and counted.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, PreTrainedModel

from model_loader.builtin import CHECKPOINT_FOLDER
from model_loader.builtin.cases import KINDS, Case, Kind, Outcome, TopicFinder, evaluation_cases
from model_loader.builtin.corpus import LANGUAGES, Corpus, read_corpus
from model_loader.builtin.dialogues import answer_text
from model_loader.chat_format.chatml import END_OF_TEXT, ChatML

_MAX_NEW_TOKENS = 360
"""More than the longest answer of the corpus has, so that only a reply that does not end is cut off."""
_ROWS_PER_BATCH = 96


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All outcomes and how long they took."""

    outcomes: tuple[Outcome, ...]
    elapsed_s: float

    def select(self, kind: Kind, language: str = "") -> list[Outcome]:
        """The outcomes of one kind, in one language or in all."""
        return [each for each in self.outcomes if each.case.kind == kind and language in ("", each.case.language)]

    def share_right(self, kind: Kind, language: str = "") -> float:
        """Which share of them is right, 0 to 1."""
        outcomes = self.select(kind, language)
        return sum(outcome.is_right for outcome in outcomes) / max(len(outcomes), 1)

    @property
    def num_cut_off(self) -> int:
        """How many replies ran into the length limit."""
        return sum(outcome.is_cut_off for outcome in self.outcomes)

    def table(self) -> str:
        """The figures as a Markdown table, a line for each kind of question."""
        lines = ["| Questions never trained on | " + " | ".join(LANGUAGES) + " | all |", "|---|" + "---:|" * 4]
        for kind in KINDS:
            cells = [self._cell(kind, language) for language in (*LANGUAGES, "")]
            lines.append(f"| {_KIND_TITLES[kind]} | " + " | ".join(cells) + " |")
        lines.append(f"| replies cut off at the length limit | | | | {self.num_cut_off} |")
        return "\n".join(lines)

    def json_line(self) -> str:
        """The same figures for a program to read."""
        figures: dict[str, float] = {f"{kind}_right": round(self.share_right(kind), 4) for kind in KINDS}
        figures |= {f"num_{kind}": len(self.select(kind)) for kind in KINDS}
        return json.dumps(figures | {"num_cut_off": self.num_cut_off, "elapsed_s": round(self.elapsed_s, 1)})

    def _cell(self, kind: Kind, language: str) -> str:
        outcomes = self.select(kind, language)
        return f"{sum(each.is_right for each in outcomes)}/{len(outcomes)} ({self.share_right(kind, language):.0%})"


_KIND_TITLES: dict[Kind, str] = {
    "paraphrase": "right topic",
    "refusal": "unrelated question refused",
    "name": "name recalled",
    "shorter": "shorter on request",
    "language": "other language on request",
}


def evaluate(model: PreTrainedModel, tokenizer: Tokenizer, corpus: Corpus) -> Evaluation:
    """Asks a model every held-out question of the corpus and judges the replies."""
    started = time.perf_counter()
    finder = TopicFinder(corpus)
    outcomes = tuple(
        Outcome(case, reply, num_tokens, is_cut_off, finder.find(reply, case.must_contain))
        for case, reply, num_tokens, is_cut_off in _replies(model, tokenizer, corpus, evaluation_cases(corpus))
    )
    return Evaluation(outcomes, time.perf_counter() - started)


def load(folder: Path) -> tuple[PreTrainedModel, Tokenizer]:
    """Model and tokenizer of a checkpoint folder, ready to generate on the CPU in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)
    return model.eval(), Tokenizer.from_file(str(folder / "tokenizer.json"))


def _replies(
    model: PreTrainedModel, tokenizer: Tokenizer, corpus: Corpus, cases: Sequence[Case]
) -> Iterator[tuple[Case, str, int, bool]]:
    """Every case with its reply, its length in tokens and whether it was cut off; long answers are batched together."""
    in_order = sorted(cases, key=lambda case: len(answer_text(corpus, case.expected).encode()))
    chatml = ChatML(tokenizer)
    for start in range(0, len(in_order), _ROWS_PER_BATCH):
        batch = in_order[start : start + _ROWS_PER_BATCH]
        generated = _generate(model, tokenizer, [chatml.render(case.messages) for case in batch])
        for case, ids in zip(batch, generated, strict=True):
            end = next((place for place, each in enumerate(ids) if each in chatml.stop_ids), len(ids))
            yield case, tokenizer.decode(ids[:end]), end, end == len(ids)


@torch.inference_mode()
def _generate(model: PreTrainedModel, tokenizer: Tokenizer, prompts: Sequence[list[int]]) -> list[list[int]]:
    """The ids that follow each prompt, stop token and padding included."""
    padding_id = tokenizer.token_to_id(END_OF_TEXT)
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[padding_id] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    output = model.generate(  # type: ignore[operator]
        ids.to(model.device),
        attention_mask=mask.to(model.device),
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        max_new_tokens=_MAX_NEW_TOKENS,
    )
    return [row.tolist() for row in output[:, longest:]]


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description="Evaluates the built-in checkpoint on held-out questions.")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT_FOLDER, help="folder (default: the shipped one)")
    parser.add_argument("--show-wrong", action="store_true", help="print every wrong reply before the table")
    arguments = parser.parse_args()
    evaluation = evaluate(*load(arguments.checkpoint), read_corpus())
    for outcome in evaluation.outcomes:
        if arguments.show_wrong and not outcome.is_right:
            expected, found = outcome.case.expected, outcome.found
            print(f"{outcome.case.messages[-1].content}\n  expected {expected.topic} ({expected.language}), ", end="")
            print(f"found {f'{found.topic} ({found.language})' if found else 'nothing'}: {outcome.reply!r}")
    print(evaluation.table())
    print(evaluation.json_line())


if __name__ == "__main__":
    main()
