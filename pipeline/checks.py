"""What types cannot say of an experiment. Every refusal names the file and the key."""

from typing import NoReturn

from pipeline.design import Experiment
from pipeline.errors import UserError
from pipeline.files import ROOT
from pipeline.hooks import GROUPED, METRIC, SHARED, VOCABULARY, hook
from pipeline.kinds import A_MODEL, KINDS, MODEL_KINDS, Refuse, is_one_of
from pipeline.sections import OPERATIONAL, Compare, Eval, Sweep, fields_of


def check(experiment: Experiment) -> None:
    def refuse(key: str, why: str) -> NoReturn:
        raise UserError(f"{experiment.path}: {key}: {why}")

    if experiment.name == "data":
        refuse("name", "'data' is the folder of prepared data in RUNS; choose another file name, or --name")
    folder = ROOT / "tokenizer/vocabularies"
    vocabularies = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    if experiment.vocabulary not in vocabularies:
        there = ", ".join(vocabularies)
        refuse("vocabulary", f"no tokenizer/vocabularies/{experiment.vocabulary}.py; there are {there}")
    hook(VOCABULARY)(experiment.vocabulary)
    _check_numbers(experiment, refuse)
    if len(set(experiment.seeds)) < len(experiment.seeds):
        refuse("seeds", "a seed is named twice")
    for name, condition in experiment.conditions.items():
        if (condition.seeds or 0) > (seeds := len(experiment.seeds)):
            refuse(f"conditions.{name}.seeds", f"{condition.seeds} of {seeds} seeds; add seeds")
        if condition.mode in hook(SHARED) and condition.share is None:
            refuse(f"conditions.{name}.share", f"mode {condition.mode} needs it; set it, for example to 0.5")
        if condition.mode not in hook(SHARED) and condition.share is not None:
            refuse(f"conditions.{name}.share", f"mode {condition.mode} takes none; remove it")
    for name in experiment.stages:
        _check_stage(experiment, name, refuse)
    if experiment.eval and (above := KINDS["eval"].check_above):
        hook(above)(experiment, experiment.eval, lambda key, why: refuse(f"eval.{key}", why))
    if experiment.eval:
        _check_samples(experiment, experiment.eval, refuse)
    if experiment.compare:
        _check_compare(experiment, experiment.compare, refuse)
    if experiment.sweep:
        _check_sweep(experiment, experiment.sweep, refuse)


def _check_numbers(experiment: Experiment, refuse: Refuse) -> None:
    """Groups of digits are for conditions that split numbers into them, and there for no other."""
    grouped = [name for name, own in experiment.conditions.items() if own.numbers in hook(GROUPED)]
    if grouped and experiment.tokenizer.group is None:
        key = f"conditions.{grouped[0]}.numbers"
        refuse(key, "left and right need tokenizer.group, the digits of a group; set it, for example to 3")
    if experiment.tokenizer.group and not grouped:
        refuse("tokenizer.group", "no condition splits numbers left or right; remove it")


def _check_stage(experiment: Experiment, name: str, refuse: Refuse) -> None:
    def refuse_key(key: str, why: str) -> NoReturn:
        refuse(f"stages.{name}.{key}", why)

    if name.startswith("eval_"):
        refuse(f"stages.{name}", "names that open with eval_ are the evaluations'; choose another")
    spec, parent = experiment.stages[name], experiment.parent(name)
    if parent is not None and "/" not in parent:
        _check_earlier(experiment, name, "from", parent, refuse_key)
        if not is_one_of(above := experiment.kind(parent), KINDS[spec.run].parents):
            refuse_key("from", f"a {spec.run} stage cannot follow '{parent}', a {above} stage")
    for key, other, kinds in experiment.reads(name):
        _check_earlier(experiment, name, key, other, refuse_key)
        if not is_one_of(its := experiment.kind(other), kinds):
            wanted = A_MODEL if A_MODEL in kinds else f"{' or '.join(kinds)} stages"
            refuse_key(key, f"takes {wanted}; '{other}' is a {its} stage")
    kind = KINDS[spec.run]
    kind.check(spec, refuse_key)
    if kind.check_above:
        hook(kind.check_above)(experiment, spec, refuse_key)
    if getattr(spec, "step", None) and parent in experiment.stages:
        kept = experiment.stages[parent].milestones
        if spec.step not in kept:
            there = ", ".join(map(str, kept)) or "none"
            refuse_key("step", f"{spec.step} is no milestone of '{parent}', which has {there}; add it there")
    _check_context(experiment, name, refuse)


def _check_earlier(experiment: Experiment, name: str, key: str, other: str, refuse_key: Refuse) -> None:
    """Of two stages of a file, the one that is read comes first."""
    names = list(experiment.stages)
    earlier = names[: names.index(name)]
    if other not in names:
        refuse_key(key, f"no stage '{other}'; earlier stages are {', '.join(earlier) or 'none'}")
    if other not in earlier:
        refuse_key(key, f"'{other}' comes later in the file; move it before {name}")


def _check_context(experiment: Experiment, name: str, refuse: Refuse) -> None:
    """What a stage and its evaluation ask for has to fit the context that the model was pretrained with."""
    spec, model = experiment.stages[name], experiment.architecture(name)
    if model is None or not (spec.run in MODEL_KINDS or hasattr(spec, "max_new_tokens")):
        return
    limit = f"{experiment.ancestor(name, 'pretrain')}'s block_size of {model.context}"
    if (rows := getattr(spec, "max_length", 0)) > model.context:
        refuse(f"stages.{name}.max_length", f"{rows} is more than {limit}")
    asked = {f"stages.{name}.max_new_tokens": getattr(spec, "max_new_tokens", 0)}
    if experiment.eval:
        asked["eval.max_new_tokens"] = experiment.eval.max_new_tokens
    for key, tokens in asked.items():
        if tokens >= model.context:
            refuse(key, f"{tokens} leave no room for a question in {limit}")


def _check_samples(experiment: Experiment, asked: Eval, refuse: Refuse) -> None:
    """What is drawn beside the greedy answers, after which stages, and whose verifier scores it."""
    for key in ("temperature", "verifier", "sampled") if not asked.samples else ():
        if getattr(asked, key) != getattr(Eval, key):
            refuse(f"eval.{key}", "is of samples, and none are drawn; set eval.samples, for example to 16")
    for name in asked.sampled or ():
        if name not in experiment.stages or experiment.kind(name) not in MODEL_KINDS:
            refuse("eval.sampled", f"'{name}' is not a stage with a model")
    verifiers = [name for name in experiment.stages if experiment.kind(name) == "verifier"]
    if asked.verifier is not None and asked.verifier not in verifiers:
        there = ", ".join(verifiers) or "none"
        refuse("eval.verifier", f"'{asked.verifier}' is no verifier stage; there are: {there}")


def _check_compare(experiment: Experiment, compare: Compare, refuse: Refuse) -> None:
    if (compare.margin is None) == (compare.relative_margin is None):
        refuse("compare", "give margin or relative_margin, one of the two; null takes an inherited one away")
    for treated, control in (compare.contrast, *compare.secondary):
        for condition in (treated, control):
            if condition not in experiment.conditions:
                refuse("compare", f"no condition '{condition}'; there are {', '.join(experiment.conditions)}")
        if treated == control:
            refuse("compare", f"contrasts '{treated}' with itself; name two conditions")
    if compare.stage not in experiment.stages or experiment.kind(compare.stage) not in MODEL_KINDS:
        refuse("compare.stage", f"'{compare.stage}' is not a stage with a model")
    hook(METRIC)(experiment, refuse)
    ladder = compare.ladder.stages if compare.ladder else []
    if len(set(ladder)) < len(ladder):
        refuse("compare.ladder.stages", "a stage is named twice; name each once")
    for name in ladder:
        if name not in experiment.stages or experiment.kind(name) not in MODEL_KINDS:
            refuse("compare.ladder.stages", f"'{name}' is not a stage with a model")
        first = ladder[0]
        if (odd := _beside_budget(experiment, name) ^ _beside_budget(experiment, first)) != frozenset():
            keys = ", ".join(sorted({key for key, _ in odd}))
            refuse(
                "compare.ladder.stages", f"'{first}' and '{name}' differ in more than their budgets: {keys}"
            )
    sweep = experiment.sweep
    if sweep and len({sweep.stage in experiment.line(name) for name in ladder}) > 1:
        message = f"the sweep of {sweep.stage} gives some of them another learning rate than others"
        refuse("compare.ladder.stages", f"{message}; sweep a stage that all come from, or none")


def _check_sweep(experiment: Experiment, sweep: Sweep, refuse: Refuse) -> None:
    spec = experiment.stages.get(sweep.stage)
    if not hasattr(spec, "lr"):
        refuse("sweep.stage", f"'{sweep.stage}' is not a stage with a learning rate")
    if sweep.after not in experiment.stages or experiment.kind(sweep.after) not in MODEL_KINDS:
        refuse("sweep.after", f"'{sweep.after}' is not a stage with a model")
    line = experiment.line(sweep.after)
    if sweep.stage not in line:
        refuse("sweep.after", f"'{sweep.after}' does not come from '{sweep.stage}'")
    if "/" in (experiment.parent(line[-1]) or ""):
        refuse("sweep.stage", "goes on from another experiment, which has no arms of the sweep's seeds")
    if len({f"{lr:g}" for lr in sweep.lr}) < len(sweep.lr) or len(set(sweep.seeds)) < len(sweep.seeds):
        refuse("sweep", "a value (to six digits) or a seed is named twice")
    if both := sorted({*sweep.seeds} & {*experiment.seeds}):
        refuse("sweep.seeds", f"{both[0]} is also judged; choose on other seeds")
    if (low := getattr(spec, "min_lr", 0.0)) > min(sweep.lr):
        refuse("sweep.lr", f"{min(sweep.lr):g} is below {sweep.stage}'s min_lr {low:g}")
    hook(METRIC)(experiment, refuse)


BUDGET = {"parent", "steps", "tokens", "examples", "flops", "warmup", "min_lr"}


def _beside_budget(experiment: Experiment, name: str | None) -> frozenset[tuple[str, str]]:
    """What a stage and those above it were told, but for how long and by which schedule."""
    told: set[tuple[str, str]] = set()
    while name in experiment.stages:
        spec = experiment.stages[name]
        if spec.run != "prepare":  # more training may take more documents
            told |= {
                (f"{spec.run}.{key}", repr(getattr(spec, key)))
                for key, field in fields_of(spec).items()
                if key not in BUDGET and OPERATIONAL not in field.metadata
            }
        name = experiment.parent(name)
    return frozenset(told)
