"""Text ↔ ids, twice: our encoder on tiktoken, and the Hugging Face tokenizer saved with every model.

Only the rewriter makes control ids. Our encoder encodes text segments as ordinary text, so a source that contains
the characters `<|endoftext|>` or `<MUL_6_9_54>` stays plain text. The Hugging Face tokenizer matches strings; on
every text without such literals it agrees with ours token for token, and it reads rewritten text the same way.
"""

import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import tiktoken
from tiktoken_ext.openai_public import r50k_pat_str

from pipeline.errors import UserError
from pipeline.experiment import Experiment
from tokenizer import gpt2
from tokenizer.conditions import EOS, PAD, Condition


class Encoder:
    """The tokenizer of one condition."""

    def __init__(self, condition: Condition):
        self.condition = condition
        self.eos, self.pad, self.size = condition.base, condition.base + 1, condition.size
        self.fact_ids = condition.trained
        self.suppressed = condition.never
        self.bpe = tiktoken.Encoding(
            f"gpt2-{condition.base}",
            pat_str=r50k_pat_str,
            mergeable_ranks=gpt2.ranks(condition.base),
            special_tokens={EOS: self.eos},
        )

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
            if token < self.eos:
                run.append(token)
                continue
            if run:
                pieces.append((self.bpe.decode(run), None))
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
        that is not text is special.
        """
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        base, printable = self.condition.base, _printable_bytes()
        vocab = {"".join(printable[b] for b in token): rank for token, rank in gpt2.ranks(base).items()}
        fast = Tokenizer(models.BPE(vocab=vocab, merges=gpt2.merges(base)))
        fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        fast.decoder = decoders.ByteLevel()
        for token, name in enumerate(self.condition.names, base):
            fast.add_tokens([AddedToken(name, normalized=False, special=token not in self.fact_ids)])
        return PreTrainedTokenizerFast(
            tokenizer_object=fast,
            bos_token=EOS,
            eos_token=EOS,
            pad_token=PAD,
            clean_up_tokenization_spaces=False,
        )


def _printable_bytes() -> dict[int, str]:
    """GPT-2's printable alphabet for bytes: the visible ones as themselves, the others from U+0100 on, in order."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


def for_run(experiment: Experiment, condition: str) -> Encoder:
    return Encoder(Condition.of(experiment, condition))


def save(encoder: Encoder, directory: Path) -> list[str]:
    """Write what a model directory needs of its tokenizer, the Hugging Face files and condition.json; their names.

    generation_config.json is among them: it suppresses the ids that the condition never trains.
    """
    directory.mkdir(parents=True, exist_ok=True)
    encoder.hf.save_pretrained(directory)
    generation = {"bos_token_id": encoder.eos, "eos_token_id": encoder.eos, "pad_token_id": encoder.pad}
    generation["suppress_tokens"] = encoder.suppressed
    (directory / "generation_config.json").write_text(json.dumps(generation, indent=1) + "\n")
    condition = encoder.condition
    content = {key: getattr(condition, key) for key in ("name", "mode", "vocabulary", "base", "match")}
    content["fingerprint"] = condition.fingerprint()
    (directory / "condition.json").write_text(json.dumps(content, indent=1) + "\n")
    return ["condition.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]


def save_model(model, encoder: Encoder, directory: Path, card: str) -> list[str]:
    """Write a transformers model, its tokenizer and its card into a model directory; the names of the files."""
    model.save_pretrained(directory)
    (directory / "README.md").write_text(card, encoding="utf-8")
    return ["config.json", "model.safetensors", "README.md", *save(encoder, directory)]


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
