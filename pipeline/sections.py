"""Every key of an experiment file: its type, its unit, its default.

A key marked `Operational[...]` says only how a stage is run and not what it makes: it is no part of an identity,
and may be changed in the middle of a run. Where a stage's result depends on a key, it must not be marked.
"""

from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass


def _integral(value: Any) -> Any:
    """10e9 is a float to YAML and a count to a person."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


T = TypeVar("T")
OPERATIONAL = "operational"
Operational = Annotated[T, OPERATIONAL]
Count = Annotated[int, BeforeValidator(_integral), Field(ge=1)]
Count0 = Annotated[int, BeforeValidator(_integral), Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, BeforeValidator(_integral), Field(ge=0, lt=2**32)]  # what numpy and TRL take
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]  # it names a folder
Parent = Annotated[  # a stage, or EXPERIMENT/STAGE
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?$", max_length=129)
]
Precision = Literal["bf16", "fp32"]
Schedule = Literal["cosine", "linear", "constant", "wsd"]  # training.py has a function for each
Dashboard = Literal["none", "tensorboard", "wandb", "trackio"]
Split = Literal["train", "dev", "test", "validation"]
Corpus = Literal[
    "shared", "seed"
]  # whose text or rows: of all seeds; or, of `sample` alone, each seed its own
strict = dataclass(config=ConfigDict(extra="forbid", strict=True), kw_only=True)


@strict
class Tokenizer:
    base: Annotated[int, BeforeValidator(_integral), Field(ge=256, le=50256)] = 50256  # BPE ranks kept
    match: Literal["strict", "weak"] = "strict"  # weak also rewrites a bare `6*9`, as published
    group: Annotated[int, BeforeValidator(_integral), Field(ge=2, le=4)] | None = (
        None  # digits of the longest group that `numbers: left` and `right` split off
    )


@strict
class ConditionSection:
    mode: Literal["plain", "token", "echo", "placebo", "value", "mixed"]
    share: Annotated[float, Field(gt=0, lt=1)] | None = None  # of facts that `mixed` writes as their tokens
    numbers: Literal["bpe", "digits", "left", "right"] = "bpe"  # how numbers are split
    seeds: Count | None = None  # how many of the experiment's seeds it gets, from the first; all if not said


@strict
class TokenizerStage:
    """Build the Hugging Face tokenizer of a condition and prove that both encoders agree."""

    run: Literal["tokenizer"]


@strict
class Prepare:
    """Documents → rewritten, encoded uint16 shards; validation held apart by document."""

    run: Literal["prepare"]
    data: str  # `sample`, a local parquet/jsonl path, or a Hub id; column `text`
    name: str | None = None  # the Hub dataset's configuration; of `sample`: see pipeline/sample/named.py
    tokens: Count  # training documents are taken until they hold this many baseline tokens
    val_tokens: Count  # the same for validation
    shard_tokens: Count = 100_000_000
    corpus: Corpus = "shared"
    drills: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of baseline tokens, generated, spread evenly
    drills_name: str | None = None  # of the drills, see pipeline/sample/named.py; short exercises if not said


@strict
class Pretrain:
    """Next-token training of a GPT-2 on prepared shards. Exactly one of `steps`, `examples` is the budget."""

    run: Literal["pretrain"]
    parent: Parent = Field(alias="from")
    n_layer: Count
    n_head: Count
    n_embd: Count
    block_size: Count  # tokens of context, T
    steps: Count | None = None
    examples: Count | None = None  # documents seen, repeats counted; steps follow from their tokens
    batch_size: Count  # windows of T tokens per step, over all GPUs
    micro_batch: Operational[
        Count | Literal["auto"]
    ]  # windows per forward pass on one GPU, at most; auto: what fits
    lr: Positive
    min_lr: Annotated[float, Field(ge=0)]  # the schedule's end
    warmup: Count0  # steps
    schedule: Schedule = "cosine"
    optimizer: Literal["adamw", "muon"] = "adamw"  # muon: for the matrices of the blocks
    weight_decay: Annotated[float, Field(ge=0)]
    betas: tuple[Share, Share] = (0.9, 0.95)
    clip: Positive = 1.0  # norm of the whole gradient
    fact_rows: Literal["random", "mean"] = "random"  # mean: each begins as the mean of the rows that spell it
    precision: Precision
    compile: Operational[bool]
    eval_every: Count  # steps between validations (loss and bits per byte)
    hellaswag_every: Count0 = 0  # steps between HellaSwag looks; 0 is never
    hellaswag: str = "Rowan/hellaswag"  # rows for them
    save_every: Operational[Count]  # steps between checkpoints
    keep: Operational[Count] = 2  # checkpoints kept
    milestones: Operational[list[Count]] = Field(
        default_factory=list
    )  # steps whose weights are kept beside them, for exports of that `step`
    report_to: Operational[Dashboard | list[Dashboard]] = "none"  # beside metrics.jsonl


@strict
class Export:
    """Ours → Hugging Face GPT2LMHeadModel and tokenizer in one directory."""

    run: Literal["export"]
    parent: Parent = Field(alias="from")
    step: Count | None = None  # one of the parent's milestones; its last step if not said


@strict
class Import:
    """Public GPT-2 weights in the place of pretraining, with rows added for our vocabulary."""

    run: Literal["import"]
    base: str  # a directory or Hub id of a GPT2LMHeadModel with GPT-2's vocabulary
    rows: Literal["random", "mean"]  # how the added rows are made


@strict
class Phase:
    """One part of a curriculum."""

    task: Literal["drills", "tinygsm", "gsm8k", "tulu"]
    data: str
    name: str | None = None
    examples: Count


@strict
class Sft:
    """Supervised fine-tuning with TRL. Exactly one of `examples`, `tokens`, `flops` is the budget."""

    run: Literal["sft"]
    parent: Parent = Field(alias="from")
    task: Literal["tulu", "gsm8k", "tinygsm", "curriculum"]
    data: str | None = None  # rows; a curriculum names its own in `phases`
    name: str | None = None
    phases: list[Phase] | None = None
    corpus: Corpus = "shared"
    examples: Count | None = None  # rows seen, repeats counted; tokens and flops likewise
    tokens: Count | None = None  # tokens seen, prompt and answer
    flops: Positive | None = None
    answer_format: Literal["trace", "program"] = "trace"  # of tinygsm rows
    annotations: Literal["keep", "strip"] = "keep"  # GSM8K's <<6*9=54>>
    batch_size: Count  # rows per step, over all GPUs
    micro_batch: Operational[Count]  # rows per forward pass on one GPU, at most
    max_length: Count  # tokens; longer rows are dropped and counted
    packing: bool = False
    lr: Positive
    schedule: Schedule
    warmup: Count0  # steps
    weight_decay: Annotated[float, Field(ge=0)]
    precision: Precision
    eval_every: Operational[Count0] = 0  # steps between looks at dev problems; 0 is never
    dev: Operational[str | None] = (
        None  # rows in GSM8K's columns whose dev rows are looked at; the stage's own GSM8K rows if not said
    )
    dev_name: Operational[str | None] = None
    save_every: Operational[Count0] = 0  # steps between checkpoints, to go on from; 0 is never
    report_to: Operational[Dashboard | list[Dashboard]] = "none"  # beside metrics.jsonl
    trainer: dict[str, Any] = Field(default_factory=dict)  # passed on to TRL's SFTConfig


@strict
class Grpo:
    """Reinforcement learning with TRL's GRPO."""

    run: Literal["grpo"]
    parent: Parent = Field(alias="from")
    data: str  # rows with question and answer
    name: str | None = None
    corpus: Corpus = "shared"
    rewards: Literal["fair", "published", "binary"]
    fact_bonus: Annotated[float, Field(ge=0)] = 0.0  # for a true written fact, in either spelling
    steps: Count
    batch_size: Count  # completions per step, over all GPUs
    group_size: Annotated[int, Field(ge=2)]  # completions per prompt
    micro_batch: Operational[Count]  # completions per forward pass on one GPU, at most
    prompts: Count  # candidate prompts drawn from the training rows
    pass_at: (
        Count0  # keep prompts that the parent solves in some but not all of this many samples; 0 keeps all
    )
    max_new_tokens: Count
    temperature: Positive
    lr: Positive
    schedule: Schedule
    warmup: Count0
    beta: Annotated[float, Field(ge=0)]  # KL penalty
    loss: Literal["grpo", "dr_grpo", "dapo"]
    precision: Precision
    eval_every: Operational[Count0] = 0  # steps between looks at the dev rows of `data`; 0 is never
    save_every: Operational[Count0] = 0  # steps; a multiple of the steps per generation; 0 is never
    report_to: Operational[Dashboard | list[Dashboard]] = "none"  # beside metrics.jsonl
    trainer: dict[str, Any] = Field(default_factory=dict)  # passed on to TRL's GRPOConfig


@strict
class Verifier:
    """A model that scores solutions, trained on a fine-tuned stage's own ones, which the grader has labelled."""

    run: Literal["verifier"]
    parent: Parent = Field(alias="from")  # what it samples, and whose weights it starts from
    generators: Annotated[list[Name], Field(min_length=1)] | None = (
        None  # stages that are sampled in its place, each for an equal part
    )
    init: Name | None = None  # a stage with a model, whose weights it starts from in its place
    data: str  # rows with question and answer
    name: str | None = None
    corpus: Corpus = "shared"
    problems: Count | None = None  # drawn from the training rows; all if not said
    samples: Annotated[int, Field(ge=2)]  # solutions of each problem, over all generators
    temperature: Positive
    max_new_tokens: Count
    examples: Count  # solutions trained on, repeats counted
    lm_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)]  # of the language-model loss
    batch_size: Count  # solutions per step, over all GPUs
    micro_batch: Operational[Count]  # solutions per forward pass on one GPU, at most
    lr: Positive
    schedule: Schedule
    warmup: Count0  # steps
    weight_decay: Annotated[float, Field(ge=0)]
    precision: Precision
    eval_every: Operational[Count0] = 0  # steps between looks at solutions of dev problems; 0 is never
    save_every: Operational[Count0] = 0  # steps between checkpoints; 0 is never
    report_to: Operational[Dashboard | list[Dashboard]] = "none"  # beside metrics.jsonl
    trainer: dict[str, Any] = Field(default_factory=dict)  # passed on to transformers' TrainingArguments


@strict
class ProblemSet:
    task: str  # a benchmark of eval/tasks
    data: str
    name: str | None = None
    split: Split
    limit: Count | None = None  # the first so many; all if not said


@strict
class Eval:
    """What every model is asked after its stage."""

    sets: dict[Name, ProblemSet] = Field(min_length=1)
    probes: bool = True
    max_new_tokens: Count
    batch_size: Operational[Count]  # problems decoded at once
    precision: Precision
    samples: Count0 = 0  # sampled answers a problem, beside the greedy one
    temperature: Positive = 0.7  # of the samples
    verifier: Name | None = None  # the stage whose verifier scores the samples, of the same arm
    sampled: Annotated[list[Name], Field(min_length=1)] | None = (
        None  # the stages after which samples are drawn; all if not said
    )


@strict
class Ladder:
    """How much more compute one condition needs than another: stages that differ in budget alone."""

    stages: Annotated[list[Name], Field(min_length=2)]  # with a model, each from its own schedule
    accuracy: Annotated[float, Field(gt=0, lt=1)]  # that both have to reach, on the metric


@strict
class Compare:
    """The preregistered question: `contrast` is arm − control on `metric` after `stage`."""

    stage: Name
    metric: str  # a problem set, SET.gold_bits, SET.maj@16 or probes.KIND: see eval/verdict/metrics.py
    contrast: tuple[Name, Name]
    secondary: list[tuple[Name, Name]] = Field(default_factory=list)
    # of equivalence, one of the two: in the metric's unit (0.02 is 2 points of accuracy, or 0.02 bits per byte), or,
    # where accuracy is low, as a share of what each contrast's control gets (0.2 is 2 points where it gets 10%)
    margin: Annotated[float, Field(gt=0, lt=1)] | None = None
    relative_margin: Annotated[float, Field(gt=0, lt=1)] | None = None
    ladder: Ladder | None = None  # of the contrast's two conditions
    exploratory: bool = False  # nothing was registered before it ran: its verdict is called a lead


@strict
class Sweep:
    """Each condition's learning rate of a stage, chosen before it is judged: see pipeline/sweep.py."""

    stage: Name  # whose `lr`
    lr: Annotated[list[Positive], Field(min_length=2)]
    seeds: Annotated[list[Seed], Field(min_length=1)]  # others than those that are judged
    after: Name  # the stage with a model whose evaluation decides
    metric: str  # of it, as in `compare`


@strict
class Plan:
    """For `plan` alone: the machine that the experiment is meant for."""

    flops: Positive  # useful FLOP/s of one device
    devices: Count = 1
    dollars_per_hour: Annotated[float, Field(ge=0)] = 0.0  # of one device


def fields_of(section: Any) -> dict[str, Any]:
    """The keys of a section or of its class, with what pydantic knows of each."""
    return section.__pydantic_fields__


def sources(spec: Any) -> Iterator[tuple[str, str | None, str]]:
    """Every (data, name, split) of rows that a section names, at any depth."""
    if is_dataclass(spec):
        if data := getattr(spec, "data", None):
            yield data, getattr(spec, "name", None), getattr(spec, "split", "train")
        for key in fields_of(spec):
            yield from sources(getattr(spec, key))
    elif isinstance(spec, dict | list):
        for inner in spec.values() if isinstance(spec, dict) else spec:
            yield from sources(inner)
