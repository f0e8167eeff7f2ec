"""One experiment is one file: read it, check it, and say what it will do and how far it is.

    python -m experiment check  experiments/quickstart.yaml     # every error in one line, in under a second
    python -m experiment plan   experiments/quickstart.yaml     # one independent command per arm, with its cost
    python -m experiment status experiments/quickstart.yaml     # done, step 7,312/19,073 with ETA, or failed and why
    python -m experiment todo   experiments/quickstart.yaml mul_tokens 0    # what this arm still has to run

A file holds a vocabulary, conditions, seeds, and stages with their hyperparameters. A condition has no place to
write a hyperparameter of its own, so arms are matched by construction: in compute by a budget of `steps`, `tokens` or
`flops`, in what they are shown by `examples`. `extends: other.yaml` inherits (mappings merge, `null` removes);
`--set stages.pretrain.lr=1e-3 --name NEW` makes the experiment NEW, whose resolved file is saved in runs/NEW/. Paths
of data are relative to DATA_DIR (default `data`); results land in RUNS (default `runs`).
"""

import argparse
import difflib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

ROOT = Path(__file__).resolve().parent


class UserError(Exception):
    """What a person can mend: one line that names the file, the key and the remedy."""


def cli(main: Callable[[], None]) -> None:
    """Run a script's main; a UserError becomes one line on stderr and exit code 2."""
    try:
        main()
    except UserError as error:
        sys.exit(print(f"error: {error}", file=sys.stderr) or 2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


# --- where things are ------------------------------------------------------------------------------------------


def runs_dir() -> Path:
    return Path(os.environ.get("RUNS") or ROOT / "runs")


def data_dir() -> Path:
    return Path(os.environ.get("DATA_DIR") or ROOT / "data")


def arm_dir(experiment: str, condition: str, seed: int) -> Path:
    return runs_dir() / experiment / f"{condition}-s{seed}"


# --- the types of the file -------------------------------------------------------------------------------------


def _integral(value: Any) -> Any:
    """10e9 is a float to YAML and a count to a person."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, BeforeValidator(_integral), Field(ge=1)]
Count0 = Annotated[int, BeforeValidator(_integral), Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Precision = Literal["bf16", "fp32"]
Schedule = Literal["cosine", "linear", "constant"]
SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}  # transformers' names
Split = Literal["train", "dev", "test", "validation"]

_strict = dataclass(config=ConfigDict(extra="forbid", strict=True), kw_only=True)


@_strict
class Tokenizer:
    base: Annotated[int, BeforeValidator(_integral), Field(ge=256, le=50256)] = 50256  # BPE ranks of GPT-2 kept
    match: Literal["strict", "weak"] = "strict"  # weak also rewrites a bare `6*9`, as published


@_strict
class Condition:
    mode: Literal["plain", "token", "echo", "placebo", "value"]
    seeds: Count | None = None  # how many of the experiment's seeds it gets, from the first; all if not said


@_strict
class TokenizerStage:
    """Build the Hugging Face tokenizer of a condition and prove that both encoders agree."""

    run: Literal["tokenizer"]


@_strict
class Prepare:
    """Documents → rewritten, encoded uint16 shards; validation held apart by document."""

    run: Literal["prepare"]
    data: str  # `sample`, a local parquet/jsonl path, or a Hub id; column `text`
    name: str | None = None  # the Hub dataset's configuration
    tokens: Count  # training documents are taken until they hold this many baseline tokens
    val_tokens: Count  # the same for validation
    shard_tokens: Count = 100_000_000
    drills: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of baseline tokens, generated, spread evenly


@_strict
class Pretrain:
    """Next-token training of a GPT-2 on prepared shards. Exactly one of `steps`, `examples` is the budget."""

    run: Literal["pretrain"]
    parent: Name = Field(alias="from")
    n_layer: Count
    n_head: Count
    n_embd: Count
    block_size: Count  # tokens of context, T
    steps: Count | None = None
    examples: Count | None = None  # documents seen, repeats counted; steps follow from their tokens
    batch_size: Count  # windows of T tokens per step, over all GPUs
    micro_batch: Count  # windows per forward pass on one GPU
    lr: Positive
    min_lr: Annotated[float, Field(ge=0)]  # the cosine's end
    warmup: Count0  # steps
    weight_decay: Annotated[float, Field(ge=0)]
    betas: tuple[Share, Share] = (0.9, 0.95)
    clip: Positive = 1.0  # norm of the whole gradient
    fact_rows: Literal["random", "mean"] = "random"  # mean: each begins as the mean of the rows that spell it
    precision: Precision
    compile: bool
    eval_every: Count  # steps between validations (loss and bits per byte)
    hellaswag_every: Count0 = 0  # steps between HellaSwag looks; 0 is never
    hellaswag: str = "Rowan/hellaswag"  # rows for them
    save_every: Count  # steps between checkpoints
    keep: Count = 2  # checkpoints kept
    report_to: Literal["none", "tensorboard", "wandb"] = "none"  # beside metrics.jsonl


@_strict
class Export:
    """Ours → Hugging Face GPT2LMHeadModel and tokenizer in one directory."""

    run: Literal["export"]
    parent: Name = Field(alias="from")


@_strict
class Import:
    """Public GPT-2 weights in the place of pretraining, with rows added for our vocabulary."""

    run: Literal["import"]
    base: str  # a directory or Hub id of a GPT2LMHeadModel with GPT-2's vocabulary
    rows: Literal["random", "mean"]  # how the added rows are made


@_strict
class Phase:
    """One part of a curriculum."""

    task: Literal["drills", "tinygsm", "gsm8k", "tulu"]
    data: str
    name: str | None = None
    examples: Count


@_strict
class Sft:
    """Supervised fine-tuning with TRL. Exactly one of `examples`, `tokens`, `flops` is the budget."""

    run: Literal["sft"]
    parent: str = Field(alias="from")
    task: Literal["tulu", "gsm8k", "tinygsm", "curriculum"]
    data: str | None = None  # rows; a curriculum names its own in `phases`
    name: str | None = None
    phases: list[Phase] | None = None
    examples: Count | None = None  # rows seen, repeats counted; tokens and flops likewise
    tokens: Count | None = None  # tokens seen, prompt and answer
    flops: Positive | None = None
    answer_format: Literal["trace", "program"] = "trace"  # of tinygsm rows
    annotations: Literal["keep", "strip"] = "keep"  # GSM8K's <<6*9=54>>
    batch_size: Count  # rows per step, over all GPUs
    micro_batch: Count  # rows per forward pass on one GPU
    max_length: Count  # tokens; longer rows are dropped and counted
    packing: bool = False
    lr: Positive
    schedule: Schedule
    warmup: Count0  # steps
    weight_decay: Annotated[float, Field(ge=0)]
    precision: Precision
    save_every: Count0 = 0  # steps between checkpoints; a stage that is killed goes on from the last; 0 is never
    trainer: dict[str, Any] = Field(default_factory=dict)  # passed on to TRL's SFTConfig


@_strict
class Grpo:
    """Reinforcement learning with TRL's GRPO."""

    run: Literal["grpo"]
    parent: str = Field(alias="from")
    data: str  # rows with question and answer
    name: str | None = None
    rewards: Literal["fair", "published", "binary"]
    fact_bonus: Annotated[float, Field(ge=0)] = 0.0  # for a true written fact, in either spelling
    steps: Count
    batch_size: Count  # completions per step, over all GPUs
    group_size: Annotated[int, Field(ge=2)]  # completions per prompt
    micro_batch: Count  # completions per forward pass on one GPU
    prompts: Count  # candidate prompts drawn from the training rows
    pass_at: Count0  # keep prompts that the parent solves in some but not all of this many samples; 0 keeps all
    max_new_tokens: Count
    temperature: Positive
    lr: Positive
    schedule: Schedule
    warmup: Count0
    beta: Annotated[float, Field(ge=0)]  # KL penalty
    loss: Literal["grpo", "dr_grpo", "dapo", "bnpo"]
    precision: Precision
    save_every: Count0 = 0  # steps; a multiple of the steps per generation; 0 is never
    trainer: dict[str, Any] = Field(default_factory=dict)  # passed on to TRL's GRPOConfig


@_strict
class ProblemSet:
    task: Literal["gsm8k", "svamp", "hellaswag"]
    data: str
    name: str | None = None
    split: Split
    limit: Count | None = None  # the first so many; all if not said


@_strict
class Eval:
    """What every model is asked after its stage."""

    sets: dict[Name, ProblemSet] = Field(min_length=1)
    probes: bool = True
    max_new_tokens: Count
    batch_size: Count  # rows decoded at once
    precision: Precision


@_strict
class Compare:
    """The preregistered question: `contrast` is arm − control on `metric` after `stage`."""

    stage: Name
    metric: str  # a problem set, or probes.KIND
    contrast: tuple[Name, Name]
    secondary: list[tuple[Name, Name]] = Field(default_factory=list)
    margin: Annotated[float, Field(gt=0, lt=1)]  # of equivalence, as a share: 0.02 is 2 points
    exploratory: bool = False  # nothing was registered before it ran: its verdict is called a lead


@_strict
class Plan:
    """For `plan` alone: the machine that the experiment is meant for."""

    flops: Positive  # useful FLOP/s of one device
    devices: Count = 1
    dollars_per_hour: Annotated[float, Field(ge=0)] = 0.0  # of one device


KINDS = {
    "tokenizer": TokenizerStage,
    "prepare": Prepare,
    "pretrain": Pretrain,
    "export": Export,
    "import": Import,
    "sft": Sft,
    "grpo": Grpo,
}
MODEL_KINDS = ("export", "import", "sft", "grpo")  # their directories hold `model/`, and are evaluated
PARENT_KINDS = {"pretrain": ("prepare",), "export": ("pretrain",), "sft": MODEL_KINDS, "grpo": MODEL_KINDS}
SCRIPTS = {  # kind → module that runs it; scripts/<kind>.sh is its shell form
    "tokenizer": "tokenizer.build",
    "prepare": "pretrain.prepare",
    "pretrain": "pretrain.train",
    "export": "pretrain.export_hf",
    "import": "pretrain.import_hf",
    "sft": "sft.train",
    "grpo": "rl.grpo",
    "eval": "eval.run",
}

Spec = TokenizerStage | Prepare | Pretrain | Export | Import | Sft | Grpo | Eval


@_strict
class Experiment:
    path: str
    name: Name
    vocabulary: Name
    tokenizer: Tokenizer
    conditions: dict[Name, Condition] = Field(min_length=1)
    seeds: list[Count0] = Field(min_length=1)
    stages: dict[Name, Any] = Field(min_length=1)
    eval: Eval | None = None
    compare: Compare | None = None
    plan: Plan | None = None

    def seeds_of(self, condition: str) -> list[int]:
        return self.seeds[: self.conditions[condition].seeds]

    def arms(self) -> list[tuple[str, int]]:
        """(condition, seed), seed by seed, so that an interrupted study is still paired."""
        return [(c, s) for s in self.seeds for c in self.conditions if s in self.seeds_of(c)]

    def stage(self, name: str) -> Spec:
        """A stage's section; `eval_X` is the experiment's `eval`, for the model of X."""
        return self.eval if name not in self.stages and name.startswith("eval_") else self.stages[name]

    def kind(self, name: str) -> str:
        return self.stages[name].run if name in self.stages else "eval"

    def stage_names(self) -> list[str]:
        """Every stage of an arm in running order, each model's evaluation behind it."""
        names = []
        for name, spec in self.stages.items():
            names.append(name)
            if self.eval and spec.run in MODEL_KINDS:
                names.append(f"eval_{name}")
        return names

    def parent(self, name: str) -> str | None:
        """The parent of a stage, `EXPERIMENT/STAGE` if it is another experiment's."""
        return name.removeprefix("eval_") if name not in self.stages else getattr(self.stages[name], "parent", None)

    def ancestor(self, name: str | None, kind: str) -> str | None:
        """The nearest stage of `kind` at or above `name` in this experiment; None if there is none."""
        while name in self.stages or name and name.startswith("eval_"):
            if self.kind(name) == kind:
                return name
            name = self.parent(name)
        return None


# --- reading it ------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, as in Python, and a key written twice is an error."""

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is written twice", node.start_mark)
        return node


_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _read(path: Path) -> dict:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        there = ", ".join(sorted(p.name for p in (ROOT / "experiments").glob("*.yaml")))
        raise UserError(f"{path}: no such experiment file; experiments/ has {there}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: an experiment file is a mapping with vocabulary, conditions, seeds and stages")
    return content


def _merge(below: Any, above: Any) -> Any:
    """`above` over `below`: mappings merge, all else replaces, null removes."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    merged = below | {key: _merge(below.get(key), value) for key, value in above.items()}
    return {key: value for key, value in merged.items() if value is not None}


def _resolve(path: Path, seen: tuple[Path, ...] = ()) -> dict:
    if path.resolve() in seen:
        raise UserError(f"{path}: extends itself; remove one `extends`")
    content = _read(path)
    base = content.pop("extends", None)
    if base is None:
        return content
    return _merge(_resolve(path.parent / str(base), (*seen, path.resolve())), content)


def _set(content: dict, assignment: str) -> None:
    """Apply `stages.pretrain.lr=1e-3`; the key has to be one that the file could hold."""
    key, equals, value = assignment.partition("=")
    if not equals:
        raise UserError(f"--set {assignment}: write it as KEY=VALUE, for example stages.pretrain.lr=1e-3")
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise UserError(f"--set {assignment}: '{parent}' is a value and holds no keys")
    content[last] = yaml.load(value, _Loader)


def _parse(schema: Any, content: Any, where: str) -> Any:
    """`content` as `schema`, or one line that names the file, the key and what is wrong with it."""
    try:
        # As JSON, because there strict means what a person means: an object may become a dataclass, "3" no number.
        return TypeAdapter(schema).validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        raise UserError(f"{where}{_explain(schema, error.errors(include_url=False)[0])}") from None


def _explain(schema: Any, error: dict) -> str:
    *parents, key = [str(part) for part in error["loc"]] or ["?"]
    name = ".".join([*parents, key])
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        fields = getattr(schema, "__pydantic_fields__", {})
        known = [field.alias or name for name, field in fields.items()] if not parents else []
        near = difflib.get_close_matches(key, known, 1)
        return f"{name}: unknown key" + (f", did you mean '{near[0]}'?" if near else "; remove it")
    if error["type"] in ("missing", "missing_argument"):
        return f"{name}: is missing; write it out"
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{name}: {message}, not {json.dumps(error['input'], default=str)[:60]}"


def load(path: str | os.PathLike, sets: Iterable[str] = (), name: str | None = None) -> Experiment:
    """The checked experiment of a file. `sets` need a new `name`; the resolved file is then saved in runs/NAME/.

    Raises UserError for a missing file, unknown key, wrong type, impossible value, or a stage that cannot follow
    its parent.
    """
    path, sets = Path(path), list(sets)
    if sets and not name:
        raise UserError(f"--set {sets[0]}: changes the experiment, so it needs a name of its own: add --name NEW")
    content = _resolve(path)
    for assignment in sets:
        _set(content, assignment)
    experiment = _build(content, name or path.stem, path)
    if name:
        saved = runs_dir() / name / f"{name}.yaml"
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        if saved.exists() and saved.read_text() != text:
            raise UserError(f"{saved}: holds another experiment of that name; choose another --name")
        if not saved.exists():
            saved.parent.mkdir(parents=True, exist_ok=True)
            aside = saved.with_name(f".{saved.name}.{os.getpid()}")
            aside.write_text(text)
            os.replace(aside, saved)  # at once: other ranks may be reading it
        experiment.path = str(saved)
    return experiment


def _build(content: dict, name: str, path: Path) -> Experiment:
    for key in ("name", "path"):
        if key in content:
            raise UserError(f"{path}: {key}: unknown key; remove it: an experiment is named by its file, or by --name")
    content = {"tokenizer": {}, **content, "name": name, "path": str(path)}
    experiment = _parse(Experiment, content, f"{path}: ")
    experiment.stages = {key: _stage(key, value, path) for key, value in experiment.stages.items()}
    _check(experiment)
    return experiment


def _stage(name: str, section: Any, path: Path) -> Spec:
    kind = section.get("run") if isinstance(section, dict) else None
    if kind not in KINDS:
        raise UserError(f"{path}: stages.{name}.run: must be one of {', '.join(KINDS)}, not {json.dumps(kind)}")
    return _parse(KINDS[kind], section, f"{path}: stages.{name}.")


def _check(experiment: Experiment) -> None:
    """What types cannot say."""

    def refuse(key: str, why: str) -> None:
        raise UserError(f"{experiment.path}: {key}: {why}")

    vocabularies = sorted(p.stem for p in (ROOT / "tokenizer/vocabularies").glob("*.py") if p.stem != "__init__")
    if experiment.vocabulary not in vocabularies:
        refuse("vocabulary", f"no tokenizer/vocabularies/{experiment.vocabulary}.py; there are {', '.join(vocabularies)}")
    if len(set(experiment.seeds)) < len(experiment.seeds):
        refuse("seeds", "a seed is named twice")
    for name, condition in experiment.conditions.items():
        if (condition.seeds or 0) > len(experiment.seeds):
            refuse(f"conditions.{name}.seeds", f"{condition.seeds} of {len(experiment.seeds)} seeds; add seeds")
    earlier: list[str] = []
    for name, spec in experiment.stages.items():
        if name.startswith("eval_"):
            refuse(f"stages.{name}", "names that open with eval_ are the evaluations'; choose another")
        parent = getattr(spec, "parent", None)
        if parent is not None and "/" not in parent:
            if parent not in experiment.stages:
                refuse(f"stages.{name}.from", f"no stage '{parent}'; earlier stages are {', '.join(earlier) or 'none'}")
            if parent not in earlier:
                refuse(f"stages.{name}.from", f"'{parent}' comes later in the file; move it before {name}")
            kind = experiment.stages[parent].run
            if kind not in PARENT_KINDS[spec.run]:
                refuse(f"stages.{name}.from", f"a {spec.run} stage cannot follow '{parent}', a {kind} stage")
        CHECKS.get(spec.run, lambda spec, refuse: None)(spec, lambda key, why: refuse(f"stages.{name}.{key}", why))
        if spec.run == "grpo":
            _check_fact_bonus(experiment, name, refuse)
        _check_context(experiment, name, refuse)
        earlier.append(name)
    if experiment.compare:
        _check_compare(experiment, experiment.compare, refuse)


def _check_context(experiment: Experiment, name: str, refuse: Callable) -> None:
    """What a stage and its evaluation ask for has to fit the context that the model was pretrained with."""
    spec, pretrained = experiment.stages[name], experiment.ancestor(name, "pretrain")
    if pretrained is None or spec.run not in MODEL_KINDS:
        return
    context = experiment.stages[pretrained].block_size
    if spec.run == "sft" and spec.max_length > context:
        refuse(f"stages.{name}.max_length", f"{spec.max_length} is more than {pretrained}'s block_size of {context}")
    asked = [(f"stages.{name}.max_new_tokens", getattr(spec, "max_new_tokens", 0))]
    asked += [("eval.max_new_tokens", experiment.eval.max_new_tokens)] if experiment.eval else []
    for key, tokens in asked:
        if tokens >= context:
            refuse(key, f"{tokens} leave no room for a question in {pretrained}'s block_size of {context}")


def _check_compare(experiment: Experiment, compare: Compare, refuse: Callable) -> None:
    from eval import probes  # above this module, like the tokenizer; it alone knows the kinds
    from tokenizer.conditions import Condition

    for treated, control in (compare.contrast, *compare.secondary):
        for condition in (treated, control):
            if condition not in experiment.conditions:
                refuse("compare", f"no condition '{condition}'; there are {', '.join(experiment.conditions)}")
        if treated == control:
            refuse("compare", f"contrasts '{treated}' with itself; name two conditions")
    if compare.stage not in experiment.stages or experiment.kind(compare.stage) not in MODEL_KINDS:
        refuse("compare.stage", f"'{compare.stage}' is not a stage with a model")
    metrics = [*experiment.eval.sets] if experiment.eval else []
    if experiment.eval and experiment.eval.probes:
        kinds = probes.probes(Condition.of(experiment, compare.contrast[0]))
        metrics += [f"probes.{kind}" for kind in kinds]
    if compare.metric not in metrics:
        refuse("compare.metric", f"no '{compare.metric}'; there are {', '.join(metrics)}")


def _check_pretrain(spec: Pretrain, refuse: Callable) -> None:
    if spec.n_embd % spec.n_head:
        refuse("n_embd", f"{spec.n_embd} is not a multiple of n_head {spec.n_head}")
    if spec.batch_size % spec.micro_batch:
        refuse("batch_size", f"{spec.batch_size} is not a multiple of micro_batch {spec.micro_batch}")
    if (spec.steps is None) == (spec.examples is None):
        refuse("steps", "give exactly one of steps, examples: the stage's budget")
    if spec.steps and spec.warmup > spec.steps:
        refuse("warmup", f"{spec.warmup} is more than the {spec.steps} steps")
    if spec.min_lr > spec.lr:
        refuse("min_lr", f"{spec.min_lr} is above lr {spec.lr}")


def _check_sft(spec: Sft, refuse: Callable) -> None:
    _check_trainer(spec, "SFTConfig", refuse)
    if (spec.phases is None) == (spec.task == "curriculum"):
        refuse("phases", "a curriculum has phases, and no other task has")
    if (spec.data is None) != (spec.task == "curriculum"):
        refuse("data", "is missing" if spec.data is None else "a curriculum's phases name their own data")
    if [spec.examples, spec.tokens, spec.flops].count(None) != 2 and spec.task != "curriculum":
        refuse("examples", "give exactly one of examples, tokens, flops: the stage's budget")
    if spec.task == "curriculum" and [spec.examples, spec.tokens, spec.flops].count(None) != 3:
        refuse("examples", "a curriculum's budget is the examples of its phases")
    if spec.batch_size % spec.micro_batch:
        refuse("batch_size", f"{spec.batch_size} is not a multiple of micro_batch {spec.micro_batch}")
    examples = spec.examples or sum(phase.examples for phase in spec.phases or ())
    if examples and not spec.packing and spec.warmup >= (steps := -(-examples // spec.batch_size)):
        refuse("warmup", f"{spec.warmup} is not less than the {steps} steps of {examples} examples")


def _check_grpo(spec: Grpo, refuse: Callable) -> None:
    _check_trainer(spec, "GRPOConfig", refuse)
    if spec.batch_size % spec.group_size:
        refuse("batch_size", f"{spec.batch_size} completions are not whole groups of group_size {spec.group_size}")
    if spec.batch_size % spec.micro_batch:
        refuse("batch_size", f"{spec.batch_size} is not a multiple of micro_batch {spec.micro_batch}")
    if spec.warmup >= spec.steps:
        refuse("warmup", f"{spec.warmup} is not less than the {spec.steps} steps")
    if spec.pass_at == 1:
        refuse("pass_at", "one sample is solved always or never; give 0 or at least 2")
    if spec.save_every % (rounds := spec.trainer.get("num_iterations", 1)):
        refuse("save_every", f"{spec.save_every} is not a multiple of trainer.num_iterations {rounds}, so a resumed run would differ")


def _check_fact_bonus(experiment: Experiment, name: str, refuse: Callable) -> None:
    """A bonus for facts is for conditions whose facts can all be read back."""
    from tokenizer.conditions import Condition  # this module is below the tokenizer, which alone knows the modes

    for condition in experiment.conditions if experiment.stages[name].fact_bonus else ():
        if not Condition.of(experiment, condition).invertible:
            refuse(f"stages.{name}.fact_bonus", f"condition '{condition}' writes facts that cannot be read back; set it to 0")


def _check_trainer(spec: Sft | Grpo, config: str, refuse: Callable) -> None:
    """Refuse keys of `trainer` that TRL's config lacks, or that the pipeline sets itself."""
    fields = json.loads((ROOT / "sft/trl_fields.json").read_text())[config]
    for key in spec.trainer:
        if key in OWNED:
            refuse(f"trainer.{key}", "is set by the pipeline, alike for every condition; use the stage's own keys")
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            refuse(f"trainer.{key}", f"TRL's {config} has no such field" + (f"; did you mean '{near[0]}'?" if near else ""))


# Fields of TRL's configs that the stages set: batch, budget, length, optimizer, precision, sampling, seeds, paths, logging.
OWNED = frozenset(
    """activation_checkpointing activation_checkpointing_kwargs assistant_only_loss auto_find_batch_size
    average_tokens_across_devices beta bf16 bf16_full_eval cache_implementation chat_template_path
    completion_only_loss data_seed dataloader_drop_last dataset_kwargs dataset_num_proc dataset_text_field
    ddp_find_unused_parameters disable_dropout disable_tqdm eos_token eval_packing eval_strategy fp16
    fp16_full_eval full_determinism generation_batch_size generation_kwargs gradient_accumulation_steps
    gradient_checkpointing gradient_checkpointing_kwargs hub_model_id ignore_data_skip
    label_smoothing_factor learning_rate logging_nan_inf_filter logging_steps logging_strategy loss_type
    lr_scheduler_type max_completion_length max_length max_steps min_p model_init_kwargs num_generations
    num_train_epochs output_dir packing packing_strategy pad_to_multiple_of pad_token padding_free
    per_device_eval_batch_size per_device_train_batch_size push_to_hub remove_unused_columns
    repetition_penalty report_to resume_from_checkpoint run_name save_steps save_strategy save_total_limit
    seed shuffle_dataset steps_per_generation temperature top_k top_p train_sampling_strategy
    truncation_mode use_cpu use_liger_kernel use_transformers_continuous_batching use_transformers_paged
    use_vllm warmup_steps weight_decay""".split()
)
CHECKS = {"pretrain": _check_pretrain, "sft": _check_sft, "grpo": _check_grpo}


# --- what it costs ---------------------------------------------------------------------------------------------

GENERATION_SHARE = 0.1  # of `plan.flops` that is reached when decoding, which waits for memory
ROWS = {"gsm8k": 1319, "svamp": 1000, "hellaswag": 10042}  # of the whole test sets


def parameters(experiment: Experiment, shape: Pretrain | None = None) -> tuple[int, int]:
    """(parameters, FLOPs of a training token) of a model, the first pretrained one; without any, GPT-2's 124M.

    FLOPs per token are 6N + 12·L·d·T (PaLM, arXiv:2204.02311, appendix B).
    """
    shape = shape or next((s for s in experiment.stages.values() if s.run == "pretrain"), None)
    layers, width, context = (shape.n_layer, shape.n_embd, shape.block_size) if shape else (12, 768, 1024)
    count = 12 * layers * width**2 + (experiment.tokenizer.base + 100 + context) * width
    return count, 6 * count + 12 * layers * width * context


def cost(experiment: Experiment) -> tuple[float, float]:
    """(hours of one device, GB on disk) that one arm is expected to take, its share of prepared data included."""
    if experiment.plan is None:
        raise UserError(f"{experiment.path}: plan: is missing; write plan: {{flops: …}}, the useful FLOP/s of one device")
    count, per_token = parameters(experiment)
    flops = held = 0.0
    for name, spec in experiment.stages.items():
        if spec.run == "prepare":
            held += 2 * (spec.tokens + spec.val_tokens)
        elif spec.run == "pretrain":
            tokens = spec.steps and spec.steps * spec.batch_size * spec.block_size
            own_count, own_per_token = parameters(experiment, spec)
            flops += own_per_token * (tokens or spec.examples * spec.block_size / 2)
            held += 12 * own_count * spec.keep
        elif spec.run == "sft":
            rows = spec.examples or sum(phase.examples for phase in spec.phases or ())
            flops += spec.flops or per_token * (spec.tokens or rows * spec.max_length / 2)
        elif spec.run == "grpo":
            tokens = spec.steps * spec.batch_size * spec.max_new_tokens
            sampled = tokens + spec.prompts * spec.pass_at * spec.max_new_tokens
            flops += per_token * tokens + 2 * count * sampled / GENERATION_SHARE
        if spec.run in MODEL_KINDS:
            held += 4 * count
            for problems in experiment.eval.sets.values() if experiment.eval else ():
                rows = min(problems.limit or ROWS[problems.task], ROWS[problems.task])
                flops += 2 * count * rows * experiment.eval.max_new_tokens / GENERATION_SHARE
    return flops / experiment.plan.flops / 3600, held / 1e9


def print_plan(experiment: Experiment) -> None:
    """One command per arm, its expected cost behind it; the sum on stderr. Lines may run in any order, or at once."""
    hours, held = cost(experiment)
    plan, arms = experiment.plan, experiment.arms()
    gpus = f"NPROC={plan.devices} " if plan.devices > 1 else ""
    for condition, seed in arms:
        dollars = f", ${hours * plan.dollars_per_hour:,.2f}" if plan.dollars_per_hour else ""
        said = f"{hours / plan.devices:.2g} h, {held:.2g} GB{dollars}"
        print(f"{gpus}bash scripts/arm.sh {experiment.path} {condition} {seed}  # {said}")
    total = f"{len(arms)} arms, {hours * len(arms):.2g} device hours, {held * len(arms):.2g} GB"
    print(f"{experiment.path}: {total}, at {plan.flops:.2g} useful FLOP/s a device", file=sys.stderr)


# --- the command -----------------------------------------------------------------------------------------------


def add_experiment_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", metavar="EXPERIMENT", help="the experiment's YAML file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key; needs --name")
    parser.add_argument("--name", metavar="NEW", help="the name of the changed experiment")


def find_arm(experiment: Experiment, condition: str, seed: int) -> None:
    """Raises UserError unless the file has this condition and gives it this seed."""
    if condition not in experiment.conditions:
        there = ", ".join(experiment.conditions)
        raise UserError(f"{experiment.path}: no condition '{condition}'; there are {there}")
    if seed not in experiment.seeds_of(condition):
        there = ", ".join(map(str, experiment.seeds_of(condition)))
        raise UserError(f"{experiment.path}: condition '{condition}' has no seed {seed}; its seeds are {there}")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiment", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("check", "plan", "status", "todo"):
        add_experiment_arguments(sub := commands.add_parser(command))
        if command == "todo":
            sub.add_argument("condition")
            sub.add_argument("seed", type=int)
        if command == "status":
            sub.add_argument("--watch", metavar="PID", type=int, nargs="+", help="live until these processes end")
    args = parser.parse_args(argv)
    experiment = load(args.experiment, args.set, args.name)
    if args.command == "check":
        print(f"{args.experiment}: {len(experiment.arms())} arms of {len(experiment.stage_names())} stages; no errors")
        return
    if args.command == "plan":
        print_plan(experiment)
        return
    import stage  # the contract imports this module; these two commands read its results

    if args.command == "todo":
        find_arm(experiment, args.condition, args.seed)
        stage.print_todo(experiment, args.condition, args.seed)
    elif args.watch:
        stage.watch(experiment, args.watch)
    else:
        stage.print_status(experiment)


if __name__ == "__main__":
    from experiment import cli as run, main as entry  # one copy of every class, whether run or imported

    run(entry)
