"""What a model finds likely, in one batched forward pass: the endings of a choice, and the reference answers.

Bits per gold answer: −log₂ of the probability that a model gives to the reference solution (with the EOS behind
it) after the prompt. Over the bytes of the solution as plain text it compares across tokenizers, and it moves
long before the first answer is right. A solution is written as the condition writes it in training; only one
of the ways in which tokens could spell it is counted, in every condition alike. A condition that cannot be read
back (a placebo, a bare value) writes another text, so its bits would be no measure of this one: it gets none.
"""

import math

from eval.decode.generate import logprobs
from eval.tasks.task import MultipleChoice, Question
from model import GPT
from tokenizer.encode import Encoder


def score(model: GPT, encoder: Encoder, items: list[MultipleChoice], batch_size: int) -> list[dict | None]:
    """One outcome an item, with `loglikelihoods` in nats; None where an ending does not fit the context."""
    counts = [len(item.endings) for item in items]
    asked = [request for item in items for request in item.requests(encoder)]
    scores = iter(logprobs(model, asked, batch_size))
    outcomes = []
    for item, count in zip(items, counts):
        endings = [next(scores) for _ in range(count)]
        outcomes.append(None if None in endings else _outcome(item, endings))
    return outcomes


def _outcome(item: MultipleChoice, endings: list[list[float]]) -> dict:
    outcome = item.grade(endings)
    bits = _bits(outcome["loglikelihoods"][item.label])
    return outcome | {"gold_bits": bits, "gold_bytes": len(f" {item.endings[item.label]}".encode())}


def gold_bits(
    model: GPT, encoder: Encoder, plain: list[Encoder], questions: list[Question], batch_size: int
) -> list[dict]:
    """`gold_bits` and `gold_bytes` of each reference answer; nothing where it was not scored."""
    if not encoder.condition.invertible:
        return [{} for _ in questions]
    scores = gold_nats(model, encoder, plain, questions, batch_size)
    return [
        {"gold_bits": _bits(sum(nats)), "gold_bytes": gold_bytes(question)} if nats else {}
        for question, nats in zip(questions, scores)
    ]


def gold_nats(
    model: GPT, encoder: Encoder, plain: list[Encoder], questions: list[Question], batch_size: int
) -> list[list[float]]:
    """The log-probability of each token of each reference answer; none where there is no answer, or it does not fit.

    It has to fit in the `plain` spellings (tokenizer.encode.every_split), so that all conditions score the same;
    `gold_n` in summary.json would tell of a vocabulary whose tokens are longer than what they stand for.
    """
    scores: list[list[float]] = [[] for _ in questions]
    context = model.config.block_size
    known = {
        i: asked
        for i, question in enumerate(questions)
        if question.solution is not None
        and all(sum(map(len, _request(question, each))) <= context for each in plain)
        and sum(map(len, asked := _request(question, encoder))) <= context
    }
    for i, nats in zip(known, logprobs(model, list(known.values()), batch_size)):
        scores[i] = nats
    return scores


def gold_bytes(question: Question) -> int:
    """Of the reference answer as plain text."""
    return len(_solution(question).encode())


def _request(question: Question, encoder: Encoder) -> tuple[list[int], list[int]]:
    """(ids of the prompt, ids of the reference answer)."""
    return question.prompt(encoder), [*encoder.encode_facts(_solution(question)), encoder.eos]


def _solution(question: Question) -> str:
    return f" {question.solution.strip()}"


def _bits(nats: float) -> float:
    return -nats / math.log(2)
