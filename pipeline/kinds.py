"""The kinds of stages, a row each. A new kind is its section, its row here, its module, and scripts/KIND.sh.

Nothing else lists kinds: what may follow what, which module runs, what is evaluated, what `plan` expects and what
`check` refuses are read from here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from pipeline import sample, weights
from pipeline.hooks import TASK, hook
from pipeline.sample.named import answered, nameless
from pipeline.sections import (
    Eval,
    Export,
    Grpo,
    Import,
    Prepare,
    Pretrain,
    Sft,
    TokenizerStage,
    Verifier,
    sources,
)

Spec = TokenizerStage | Prepare | Pretrain | Export | Import | Sft | Grpo | Verifier | Eval
Refuse = Callable[[str, str], NoReturn]  # (key, why)


class Architecture(NamedTuple):
    """What the cost of a model depends on; without any said, GPT-2's 124M."""

    ids: int
    layers: int = 12
    width: int = 768
    context: int = 1024

    @property
    def parameters(self) -> int:
        return 12 * self.layers * self.width**2 + (self.ids + self.context) * self.width

    @property
    def flops_per_token(self) -> int:
        """Of training: 6N + 12·L·d·T (PaLM, arXiv:2204.02311, appendix B)."""
        return 6 * self.parameters + 12 * self.layers * self.width * self.context


class Cost(NamedTuple):
    """What a stage is expected to take."""

    flops: float = 0.0  # of training, and of reading a text
    decoding: float = 0.0  # FLOPs of decoding, which waits for memory and reaches a fraction of the speed
    held: float = 0.0  # bytes that stay on disk


# --- what types cannot say ----------------------------------------------------------------------------------


def _check_corpus(spec: Prepare | Sft | Grpo | Verifier, refuse: Refuse) -> None:
    if spec.corpus == "seed" and any(data != "sample" for data, *_ in sources(spec)):
        refuse("corpus", "only `sample` writes a text for every seed; take data: sample, or corpus: shared")


def _check_prepare(spec: Prepare, refuse: Refuse) -> None:
    _check_corpus(spec, refuse)
    if spec.drills_name and not spec.drills:
        refuse("drills_name", "there are no drills; set drills, their share")
    _check_name(refuse, "name", spec.data, spec.name)
    _check_name(refuse, "drills_name", "sample", spec.drills_name)


def _check_name(refuse: Refuse, key: str, data: str | None, name: str | None, task: str = "gsm8k") -> None:
    """Whether `sample` has training rows of that name."""
    if data != "sample" or name is None:
        return
    try:
        answered(name, "train", 1, 0) if task == "gsm8k" else nameless(name)
    except ValueError as error:
        refuse(key, str(error))


def _check_pretrain(spec: Pretrain, refuse: Refuse) -> None:
    if spec.n_embd % spec.n_head:
        refuse("n_embd", f"{spec.n_embd} is not a multiple of n_head {spec.n_head}")
    if (spec.steps is None) == (spec.examples is None):
        refuse("steps", "give exactly one of steps, examples: the stage's budget")
    if spec.steps and spec.warmup > spec.steps:
        refuse("warmup", f"{spec.warmup} is more than the {spec.steps} steps")
    if spec.steps and (late := [step for step in spec.milestones if step > spec.steps]):
        refuse("milestones", f"{late[0]} is more than the {spec.steps} steps")
    if spec.min_lr > spec.lr:
        refuse("min_lr", f"{spec.min_lr} is above lr {spec.lr}")


def _check_sft(spec: Sft, refuse: Refuse) -> None:
    _check_corpus(spec, refuse)
    if (spec.phases is None) == (spec.task == "curriculum"):
        refuse("phases", "a curriculum has phases, and no other task has")
    if (spec.data is None) != (spec.task == "curriculum"):
        refuse("data", "is missing" if spec.data is None else "a curriculum's phases name their own data")
    if [spec.examples, spec.tokens, spec.flops].count(None) != 2 and spec.task != "curriculum":
        refuse("examples", "give exactly one of examples, tokens, flops: the stage's budget")
    if spec.task == "curriculum" and [spec.examples, spec.tokens, spec.flops].count(None) != 3:
        refuse("examples", "a curriculum's budget is the examples of its phases")
    if spec.dev_name and not spec.dev:
        refuse("dev_name", "is a configuration of dev, which is missing")
    _check_name(refuse, "name", spec.data, spec.name, spec.task)
    _check_name(refuse, "dev_name", spec.dev, spec.dev_name)
    for i, phase in enumerate(spec.phases or ()):
        _check_name(refuse, f"phases.{i}.name", phase.data, phase.name, phase.task)
    if spec.eval_every and not spec.dev and "gsm8k" not in [spec.task, *(p.task for p in spec.phases or ())]:
        refuse(
            "eval_every", "looks at dev rows of GSM8K's columns, and no such rows are trained on; name dev"
        )
    examples = _examples(spec)
    if examples and not spec.packing and spec.warmup >= (steps := -(-examples // spec.batch_size)):
        refuse("warmup", f"{spec.warmup} is not less than the {steps} steps of {examples} examples")


def _check_grpo(spec: Grpo, refuse: Refuse) -> None:
    _check_corpus(spec, refuse)
    _check_name(refuse, "name", spec.data, spec.name)
    if spec.batch_size % spec.group_size:
        message = f"{spec.batch_size} completions are not whole groups of group_size {spec.group_size}"
        refuse("batch_size", message)
    if spec.warmup >= spec.steps:
        refuse("warmup", f"{spec.warmup} is not less than the {spec.steps} steps")
    if spec.pass_at == 1:
        refuse("pass_at", "one sample is solved always or never; give 0 or at least 2")
    if spec.save_every % (rounds := spec.trainer.get("num_iterations", 1)):
        message = f"{spec.save_every} is not a multiple of trainer.num_iterations {rounds}"
        refuse("save_every", f"{message}, so a resumed run would differ")


def _check_verifier(spec: Verifier, refuse: Refuse) -> None:
    _check_corpus(spec, refuse)
    _check_name(refuse, "name", spec.data, spec.name)
    generators = spec.generators or []
    if len(set(generators)) < len(generators):
        refuse("generators", "a stage is named twice; name each once")
    if generators and spec.samples % len(generators):
        refuse("samples", f"{spec.samples} are not equal parts for {len(generators)} generators")
    if spec.warmup >= (steps := -(-spec.examples // spec.batch_size)):
        refuse("warmup", f"{spec.warmup} is not less than the {steps} steps of {spec.examples} examples")


# --- what it costs ------------------------------------------------------------------------------------------


def _cost_prepare(spec: Prepare, model: Architecture) -> Cost:
    return Cost(held=2 * (spec.tokens + spec.val_tokens))


def _cost_pretrain(spec: Pretrain, model: Architecture) -> Cost:
    # A document that is seen once fills about half a window.
    windows = spec.steps * spec.batch_size if spec.steps else (spec.examples or 0) / 2
    weights = 4 * model.parameters  # in fp32; a checkpoint holds AdamW's two moments as well
    held = weights * (3 * spec.keep + len(spec.milestones))
    return Cost(model.flops_per_token * windows * spec.block_size, held=held)


def _cost_model(spec: Export | Import, model: Architecture) -> Cost:
    return Cost(held=4 * model.parameters)


def _cost_sft(spec: Sft, model: Architecture) -> Cost:
    tokens = spec.tokens or (_examples(spec) or 0) * spec.max_length / 2
    return Cost(spec.flops or model.flops_per_token * tokens, held=4 * model.parameters)


def _cost_grpo(spec: Grpo, model: Architecture) -> Cost:
    trained = spec.steps * spec.batch_size * spec.max_new_tokens
    sampled = trained + spec.prompts * spec.pass_at * spec.max_new_tokens
    decoding = 2 * model.parameters * sampled
    return Cost(model.flops_per_token * trained, decoding, held=4 * model.parameters)


SAMPLED = 0.4  # of a greedy token's time, that one of many samples takes: they fill the rows (scripts/bench/decode.py)


def _cost_verifier(spec: Verifier, model: Architecture) -> Cost:
    sampled = (spec.problems or TRAINING_PROBLEMS) * spec.samples * spec.max_new_tokens
    trained = model.flops_per_token * spec.examples * spec.max_new_tokens
    return Cost(trained, 2 * model.parameters * sampled * SAMPLED, held=4 * model.parameters)


def _cost_eval(spec: Eval, model: Architecture) -> Cost:
    wholes = [(each.limit, hook(TASK)(each.task).size) for each in spec.sets.values()]
    rows = sum(min(limit or size, size) for limit, size in wholes)
    answered = 2 * model.parameters * rows * spec.max_new_tokens  # by one answer each
    scored = answered * spec.samples if spec.verifier else 0.0
    return Cost(scored, answered * (1 + SAMPLED * spec.samples))


def _examples(spec: Sft) -> int | None:
    return sum(phase.examples for phase in spec.phases) if spec.phases else spec.examples


# --- the rows -----------------------------------------------------------------------------------------------


A_MODEL = "a stage with a model"
TRAINING_PROBLEMS = 6_973  # GSM8K's, the dev rows apart


class Read(NamedTuple):
    """A stage of the same arm that a stage reads beside its parent."""

    key: str  # of the section, that names it
    stage: str
    kinds: tuple[str, ...]  # that it may be of, or A_MODEL


@dataclass(frozen=True)
class Kind:
    section: type
    module: str  # that runs it; scripts/KIND.sh is its shell form
    libraries: tuple[str, ...] = ()  # modules that it imports late, because they take seconds
    parents: tuple[str, ...] = ()  # the kinds that it may follow, or A_MODEL
    reads: Callable[[Any], list[Read]] = lambda spec: []  # what its section names beside its parent
    has_model: bool = False  # its directory holds `model/`, which is evaluated
    is_shared: bool = False  # by seeds and experiments: it lands in runs/data/
    architecture: Callable[[Any, int], Architecture] | None = (
        None  # (section, ids): of a model that it makes from nothing
    )
    check: Callable[[Any, Refuse], None] = lambda spec, refuse: None
    check_above: str | None = None  # `module:function`: a check that needs the tokenizer, see pipeline.hooks
    made_of: Callable[[Any, bool], dict] = lambda spec, fetch: {}  # digests of what it reads beside rows
    versions: tuple[str, ...] = ()  # modules above whose VERSION says what a name stands for
    cost: Callable[[Any, Architecture], Cost] = lambda spec, model: Cost()


FINE_TUNED = ("sft", "grpo")
OPTIMIZER = "torch._dynamo"  # torch imports it with the first optimizer

KINDS = {
    "tokenizer": Kind(TokenizerStage, "tokenizer.build"),
    "prepare": Kind(
        Prepare,
        "pretrain.prepare",
        is_shared=True,
        check=_check_prepare,
        made_of=lambda spec, fetch: {"drills": f"sample-{sample.VERSION}"} if spec.drills else {},
        cost=_cost_prepare,
    ),
    "pretrain": Kind(
        Pretrain,
        "pretrain.train",
        libraries=(OPTIMIZER,),
        parents=("prepare",),
        architecture=lambda spec, ids: Architecture(ids, spec.n_layer, spec.n_embd, spec.block_size),
        check=_check_pretrain,
        cost=_cost_pretrain,
    ),
    "export": Kind(Export, "pretrain.export_hf", parents=("pretrain",), has_model=True, cost=_cost_model),
    "import": Kind(
        Import,
        "pretrain.import_hf",
        has_model=True,
        made_of=lambda spec, fetch: {"base": weights.base_digest(spec.base, fetch)},
        cost=_cost_model,
    ),
    "sft": Kind(
        Sft,
        "sft.train",
        libraries=("sft.trl_trainer", OPTIMIZER),
        parents=(A_MODEL,),
        has_model=True,
        check=_check_sft,
        check_above="sft:check",
        versions=("pipeline.conversation", "sft"),
        cost=_cost_sft,
    ),
    "grpo": Kind(
        Grpo,
        "rl.grpo",
        libraries=("rl.trl_trainer", "rl.rollouts", OPTIMIZER),
        parents=(A_MODEL,),
        has_model=True,
        check=_check_grpo,
        check_above="rl.rewards:check",
        versions=("pipeline.conversation", "rl.rewards"),
        cost=_cost_grpo,
    ),
    "verifier": Kind(
        Verifier,
        "rl.verifier",
        libraries=("rl.verifier_trainer", "rl.solutions", OPTIMIZER),
        parents=FINE_TUNED,
        reads=lambda spec: [
            *(Read("generators", stage, FINE_TUNED) for stage in spec.generators or []),
            *([Read("init", spec.init, (A_MODEL,))] if spec.init else []),
        ],
        check=_check_verifier,
        versions=("pipeline.conversation", "eval.tasks"),
        cost=_cost_verifier,
    ),
    # No stage of a file's `stages`: its section is `eval`, and it follows every stage with a model.
    "eval": Kind(
        Eval,
        "eval.run",
        libraries=("pandas",),  # pyarrow imports it with the first table of rows
        parents=(A_MODEL,),
        reads=lambda spec: [Read("verifier", spec.verifier, ("verifier",))] if spec.verifier else [],
        check_above="eval.tasks:check",
        versions=("pipeline.conversation", "eval.tasks"),
        cost=_cost_eval,
    ),
}

MODEL_KINDS = tuple(name for name, kind in KINDS.items() if kind.has_model)


def is_one_of(kind: str, kinds: tuple[str, ...]) -> bool:
    return kind in kinds or (A_MODEL in kinds and kind in MODEL_KINDS)
