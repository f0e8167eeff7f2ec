"""Text ↔ ids, twice: our encoder on tiktoken, and the Hugging Face tokenizer saved with every model.

Only the rewriter makes control ids. Our encoder encodes text segments as ordinary text, so a source that contains
the characters `<|endoftext|>` or `<MUL_6_9_54>` stays plain text. The Hugging Face tokenizer matches strings; on
every text without such literals it agrees with ours token for token, and it reads rewritten text the same way.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

import tiktoken
from tiktoken_ext.openai_public import r50k_pat_str

from pipeline.conversation import JINJA
from pipeline.errors import UserError
from pipeline.experiment import Experiment
from pipeline.files import obey_umask
from tokenizer import gpt2, numbers
from tokenizer.conditions import EOS, PAD, Condition


class Encoder:
    """The tokenizer of one condition."""

    def __init__(self, condition: Condition):
        self.condition = condition
        self.eos, self.pad, self.size = condition.base, condition.base + 1, condition.size
        self.fact_ids, self.groups = condition.trained, condition.groups
        ranks = gpt2.ranks(condition.base)
        unused = numbers.unused(ranks, condition.numbers)
        self.suppressed = unused + condition.never
        groups = {i: condition.names[i - condition.base].encode() for i in condition.groups}
        self.text = {rank: token for token, rank in ranks.items()} | groups  # id → UTF-8, or a part of it
        self.baseline = self.bpe = _encoding(condition, r50k_pat_str, ranks)
        if condition.numbers != "bpe":
            pattern = numbers.text_pattern(condition.numbers, condition.group)
            kept = {self.text[i]: i for i in self.text.keys() - unused}
            self.bpe = _encoding(condition, pattern, kept)

    def encode(self, text: str) -> list[int]:
        """Ids of a text as it stands; never a control id."""
        return self.bpe.encode_ordinary(text)

    def encode_facts(self, text: str) -> list[int]:
        """Ids of a document or an answer: its facts written as this condition writes them."""
        return self.encode_segments(self.condition.rewrite(text))

    def spellings(self) -> dict[int, list[int]]:
        """Every fact's id and the ids of its plain spelling, the same in every condition."""
        facts = self.condition.facts
        plain = (" = ".join(facts.spell(index)) for index in range(len(facts.FACTS)))
        return {self.condition.first_fact + index: self.encode(text) for index, text in enumerate(plain)}

    def group_spellings(self) -> dict[int, list[int]]:
        """Every id of a group of digits and the ids of those digits, the same in every condition."""
        groups = enumerate(numbers.groups(self.condition.group), self.condition.first_group)
        return {
            token: [self.baseline.encode_single_token(digit) for digit in digits] for token, digits in groups
        }

    def encode_segments(self, segments: list[str | int]) -> list[int]:
        """Ids of text segments and control ids, in order."""
        ids: list[int] = []
        for segment in segments:
            if isinstance(segment, int):
                ids.append(segment)
            else:
                ids += self.bpe.encode_ordinary(segment)
        return ids

    def render(self, ids: Iterable[int]) -> str:
        """The plain text of ids: facts as equations, EOS, pad and fillers as nothing. All that graders ever see."""
        return "".join(text for text, _ in self.pieces(ids))

    def pieces(self, ids: Iterable[int]) -> list[tuple[str, int | None]]:
        """Rendered text in order, as (text, None) or, where a control id stood, (what it says, id)."""
        pieces: list[tuple[str, int | None]] = []
        run: list[int] = []
        for token in [*ids, self.eos]:
            if token in self.text:
                run.append(token)
                continue
            if run:
                pieces.append((b"".join(self.text[i] for i in run).decode(errors="replace"), None))
                run = []
            pieces.append((self.condition.say(token), token))
        return pieces[:-1]

    def count_facts(self, ids: Iterable[int]) -> int:
        """How many of the ids are fact tokens."""
        return sum(token in self.fact_ids for token in ids)

    def fingerprint(self) -> str:
        return self.condition.fingerprint()

    @cached_property
    def hf(self):
        """The same tokenizer as a transformers PreTrainedTokenizerFast.

        Facts are added with special=False, so that decoding with skip_special_tokens keeps them; everything else
        that is not text is special. Groups of digits are no added tokens, which would be found anywhere: they are
        words of the BPE, looked up whole, and GPT-2's own tokens of the same digits make way for them.
        """
        from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        condition, base = self.condition, self.condition.base
        vocab, merges = gpt2.vocabulary(base), gpt2.merges(base)
        names = dict(enumerate(condition.names, base))
        split = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
        if condition.numbers != "bpe":
            vocab |= {
                f"<|unused_{vocab[names[i]]}|>": vocab[names[i]] for i in self.groups if names[i] in vocab
            }
            merges = [pair for pair in merges if not re.search("[0-9]", "".join(pair))]
            digits = Regex(numbers.piece(condition.numbers, condition.group))
            split.insert(0, pre_tokenizers.Split(digits, "isolated"))
        vocab |= {name: i for i, name in names.items()}
        fast = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=bool(self.groups)))
        fast.pre_tokenizer = pre_tokenizers.Sequence(split)
        fast.decoder = decoders.ByteLevel()
        fast.add_tokens(
            [
                AddedToken(name, normalized=False, special=i not in self.fact_ids)
                for i, name in names.items()
                if i not in self.groups
            ]
        )
        return PreTrainedTokenizerFast(
            tokenizer_object=fast,
            bos_token=EOS,
            eos_token=EOS,
            pad_token=PAD,
            clean_up_tokenization_spaces=False,
            chat_template=JINJA,
        )


def _encoding(condition: Condition, pattern: str, ranks: dict[bytes, int]) -> tiktoken.Encoding:
    name = f"gpt2-{condition.base}-{condition.numbers}"
    return tiktoken.Encoding(
        name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={EOS: condition.base}
    )


def for_run(experiment: Experiment, condition: str) -> Encoder:
    return Encoder(Condition.of(experiment, condition))


def every_split(condition: Condition, experiment: Experiment | None = None) -> list[Encoder]:
    """The plain spelling, the longest there is, in each way in which the experiment's conditions split numbers.

    What fits in all of them fits in every condition, so that each keeps and drops the same items. Without an
    experiment the condition stands alone.
    """
    splits = {own.numbers for own in experiment.conditions.values()} if experiment else {condition.numbers}
    return [Encoder(replace(condition.plain, numbers=split)) for split in sorted(splits)]


def save(encoder: Encoder, directory: Path, context: int | None = None) -> list[str]:
    """Write what a model directory needs of its tokenizer, the Hugging Face files and condition.json; their names.

    `context` is the model's, in tokens. generation_config.json suppresses the ids that the condition never trains.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if context is not None:
        encoder.hf.model_max_length = context
    encoder.hf.save_pretrained(directory, save_jinja_files=False)
    path = directory / "tokenizer_config.json"
    old_name = {"tokenizer_class": "PreTrainedTokenizerFast"}  # transformers 4 knows it too
    config = json.loads(path.read_text()) | old_name
    path.write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n")
    ids = {"bos_token_id": encoder.eos, "eos_token_id": encoder.eos, "pad_token_id": encoder.pad}
    generation = ids | {"suppress_tokens": encoder.suppressed}
    (directory / "generation_config.json").write_text(json.dumps(generation, indent=1) + "\n")
    condition = encoder.condition
    content = asdict(condition) | {"fingerprint": condition.fingerprint()}
    (directory / "condition.json").write_text(json.dumps(content, indent=1) + "\n")
    return ["condition.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]


def save_model(model, encoder: Encoder, directory: Path, card: str) -> list[str]:
    """Write a transformers model, its tokenizer and its card into a model directory; the names of the files."""
    model.config.use_cache = True  # trainers turn it off
    model.save_pretrained(directory)
    obey_umask(directory / "model.safetensors")
    (directory / "README.md").write_text(card, encoding="utf-8")
    tokenizer = save(encoder, directory, model.config.n_positions)
    return ["config.json", "model.safetensors", "README.md", *tokenizer]


def from_dir(directory: str | Path) -> Encoder:
    """The encoder that a model directory was made with. Raises UserError if it has none or ours has changed since."""
    path = Path(directory) / "condition.json"
    try:
        content = json.loads(path.read_text())
        fingerprint = content.pop("fingerprint")
        condition = Condition(**content)
    except FileNotFoundError:
        raise UserError(
            f"{path}: is not there, so the tokenizer is not known; export the model first"
        ) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: cannot be read ({error}); export the model again") from None
    try:
        same = condition.fingerprint() == fingerprint
    except ModuleNotFoundError:
        raise UserError(f"{path}: no tokenizer/vocabularies/{condition.vocabulary}.py; put it back") from None
    if not same:
        raise UserError(
            f"{path}: vocabulary '{condition.vocabulary}' has changed since; undo that or train again"
        )
    return Encoder(condition)
