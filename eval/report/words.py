"""A comparison in words: the sentence of the verdict, its explanation, and the summary report.md."""

import re

from eval.report import tables
from eval.report.scales import difference, level, points

WIDE = 0.25  # an absolute margin above this share of the control's accuracy is said to be wide


def sentence(primary: dict) -> str:
    """The verdict in one line."""
    line = f"{primary['label']}: {primary['treated']} − {primary['control']}"
    line += f" on {primary['metric']} after {primary['stage']}"
    if primary["difference"] is None:
        return line
    of = "this pair of models" if len(primary["seeds"]) == 1 else f"{len(primary['seeds'])} seeds"
    unit = primary["unit"]
    value, low, high = (
        difference(x, unit).replace("−", "-") for x in (primary["difference"], *primary["interval"])
    )
    better = ", lower is better" if primary["lower_is_better"] else ""
    return f"{line} = {value} {unit} [{low}, {high}]{better}, {of}"


def words(content: dict) -> dict[str, str]:
    """The verdict for a reader: a headline and its explanation."""
    primary = content["primary"]
    treated, control = primary["treated"], primary["control"]
    label, lead, _ = primary["label"].partition(", exploratory")
    done, planned = len(primary["seeds"]), primary["planned"]
    unfinished = f"Not finished: {done} of {planned} seeds so far."
    if not done:
        explanation = f"No pair of runs has been evaluated after {primary['stage']} yet."
        return {"headline": unfinished, "explanation": explanation}
    headlines = {
        "supports": f"{treated} does better than {control}.",
        "refutes": f"{treated} does worse than {control}.",
        "equivalent": f"{treated} and {control} do equally well, give or take {_margin(primary)}.",
        "underpowered": f"Too little evidence to tell {treated} from {control}.",
    }
    headline = headlines.get(label, unfinished)
    parts = [
        _scored(primary),
        _several(primary) if done > 1 else _single(primary),
        _floor(content),
        _wide(primary),
    ]
    if lead:
        parts.append("Nothing was registered before these runs: a lead, and not a verdict.")
    if done < planned:
        parts.append("Runs are missing, so there is no verdict yet.")
    return {"headline": headline, "explanation": " ".join(filter(None, parts))}


def _margin(contrast: dict) -> str:
    return f"{difference(contrast['margin'], contrast['unit'], '')} {contrast['unit']}"


def _scored(contrast: dict) -> str:
    treated, control = contrast["treated"], contrast["control"]
    seeds = "one seed" if len(contrast["seeds"]) == 1 else f"{len(contrast['seeds'])} seeds"
    unit, mean = contrast["unit"], contrast["mean"]
    got = f"{treated} gets {level(mean[treated], unit)} and {control} {level(mean[control], unit)}"
    if not contrast["lower_is_better"]:
        got = f"{treated} gets {level(mean[treated], unit)} right and {control} {level(mean[control], unit)}"
    size = f"a difference of {difference(contrast['difference'], unit)} {unit}"
    size += ", and lower is better" if contrast["lower_is_better"] else ""
    where = f"{contrast['problems']:,} problems of {contrast['metric']} after {contrast['stage']}"
    return f"Over {seeds} and {where}, {got}: {size}."


def _single(contrast: dict) -> str:
    treated, control, p = contrast["treated"], contrast["control"], tables.p_value(contrast["p"])
    p = f"p {p if p[0] == '<' else f'= {p}'}"
    if "only_treated_right" in contrast:
        alone = f"Only {treated} is right on {contrast['only_treated_right']} problems,"
        alone += f" only {control} on {contrast['only_control_right']} (exact McNemar {p})"
    else:
        alone = f"Over problems, paired t has {p}"
    return (
        f"{alone}. The interval is about these two models"
        " on problems like these: it says nothing about other seeds, so a single seed is always"
        " underpowered."
    )


def _several(contrast: dict) -> str:
    (low, high), (low90, high90), margin = contrast["interval"], contrast["equivalence"], contrast["margin"]
    start, end, start90, end90 = (difference(x, contrast["unit"]) for x in (low, high, low90, high90))
    interval = f"The 95% interval, for other seeds and other problems, runs from {start} to {end}"
    if low > 0 or high < 0:
        return f"{interval}, {'above' if low > 0 else 'below'} 0."
    narrow = f"{interval} and includes 0; the 90% interval, from {start90} to {end90},"
    of_margin = f"the margin of ±{_margin(contrast)}"
    if share := contrast.get("relative_margin"):
        what = "accuracy" if contrast["unit"] == "points" else "bits"
        of_margin += f" ({100 * share:g}% of {contrast['control']}'s {what})"
    if -margin < low90 and high90 < margin:
        return f"{narrow} lies within {of_margin}."
    message = f"{narrow} reaches beyond {of_margin}."
    plan = contrast.get("planning")
    if plan and plan["smallest_effect"] is not None:
        seen = points(plan["smallest_effect"], "")
        message += f" With pairing like this, {len(contrast['seeds'])} seeds see {seen} points with 80% power"
        needed = plan["seeds_for_the_margin"]
        message += f"; the margin takes {needed:,} seeds." if needed else "."
    return message


def other_tests(contrast: dict) -> str:
    """What else was computed of a contrast over several seeds, in one line; empty where it was not."""
    if "paired_t" not in contrast:
        return ""
    correlation, deviation = contrast["pairing"]["correlation"], contrast["pairing"]["spread"]
    unit = contrast["unit"]
    low, high = (difference(end, unit) for end in contrast["crossed_bootstrap"])
    parts = [f"{name} p {p if p[0] == '<' else f'= {p}'}" for name, p in (
        ("seeds and problems together", tables.p_value(contrast["p"])),
        ("paired t", tables.p_value(contrast["paired_t"]["p"])),
        ("sign-flip", tables.p_value(contrast["sign_flip_p"])),
        ("equivalence", tables.p_value(contrast["equivalence_p"])),
    )]  # fmt: skip
    parts.append(f"crossed bootstrap {low} to {high} {unit}")
    parts += [f"correlation of outcomes {correlation:.2f}"] if correlation is not None else []
    parts.append(f"standard deviation over seeds {difference(deviation, unit, '')} {unit}")
    return f"Tests: {', '.join(parts)}"


def ladder(content: dict) -> str:
    """How much compute the treated condition needs, in one line; empty without a ladder."""
    if not (result := content.get("ladder")):
        return ""
    goal = f"{result['accuracy']:.1%} of {result['metric']} right"
    if result["ratio"] is None:
        why = [f"seed {seed} is not finished" for seed in result["missing"]]
        why += [
            f"{name} does not cross it between the first stage and the last" for name in result["unreached"]
        ]
        return f"Compute for {goal}: no ratio ({'; '.join(why)})."
    line = (
        f"Compute for {goal}: {result['treated']} needs {result['ratio']:.2f} × that of {result['control']}"
    )
    if result["interval"]:
        low, high = result["interval"]
        line += f" [{low:.2f}, {high:.2f}]"
    line += f", {_count(len(result['by_seed']))}"
    line += f" ({_count(len(result['missing']))} not finished)" if result["missing"] else ""
    if (top := result["top"])["difference"] is not None:
        low, high = (points(end) for end in top["interval"])
        line += f"; after {top['stage']} the difference is {points(top['difference'])} points [{low}, {high}]"
    return f"{line}."


def _count(seeds: int) -> str:
    return f"{seeds} seed" + "s" * (seeds != 1)


def _floor(content: dict) -> str:
    """A warning where neither condition does better than a program that does not read the question."""
    primary = content["primary"]
    floor = primary["floor"]
    if floor is None or max(primary["mean"].values()) > floor:
        return ""
    return f"Neither is above the floor of {floor:.1%}, a constant answer's, so there is little to compare."


def _wide(contrast: dict) -> str:
    """A warning where an absolute margin would call a large part of the accuracy no difference."""
    accuracy, margin = contrast["mean"][contrast["control"]], contrast["margin"]
    if contrast.get("relative_margin") or margin <= WIDE * accuracy or contrast["unit"] != "points":
        return ""
    share = f"{margin / accuracy:.0%} of" if accuracy else "above"
    return (
        f"The margin of ±{_margin(contrast)} is {share} {contrast['control']}'s accuracy: where accuracy is"
        " low, `compare.relative_margin` states the margin as a share of it."
    )


# --- report.md ----------------------------------------------------------------------------------------------


def markdown(content: dict) -> str:
    """The summary to paste."""
    parts = [f"# {inert(content['title'])}"]
    if content["primary"]:
        parts += [
            f"**{content['sentence']}**",
            f"{content['words']['headline']} {content['words']['explanation']}",
        ]
        parts += [ladder(content), other_tests(content["primary"])]
    else:
        parts.append("Side by side, described without a verdict: the experiments' runs are not paired.")
    parts.append("\n".join(f"- **Note:** {inert(line)}" for line in content["warnings"]))
    if content["primary"]:
        parts.append(tables.markdown(tables.contrast_rows(content)))
        if content["secondary"]:
            parts.append(tables.HOLM)
        if len(content["by_stage"]) > 1:
            parts.append(tables.markdown(tables.stage_rows(content)))
    parts.append(tables.markdown(tables.rows(content)))
    if sampled := tables.sample_rows(content):
        parts += ["What samples are worth:", tables.markdown(sampled)]
    if gained := tables.gain_rows(content):
        parts += ["What choosing among them gains over drawing one, in points:", tables.markdown(gained)]
    if strata := tables.strata_rows(content):
        title = f"{content['question']['set']} by kind of problem, with the number of problems:"
        parts += [title, tables.markdown(strata), content["figures"]["strata"]["note"]]
    parts.append(
        "Intervals of accuracies are for other problems (Wilson's) and, where there are several seeds, for other"
        " seeds too. The floor is what the best constant answer scores without reading. `report.html` has the"
        " figures."
    )
    return "\n\n".join(filter(None, parts)) + "\n"


def inert(line: str) -> str:
    """A message as Markdown that shows it and does nothing else: error texts can hold anything."""
    line = " ".join(line.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|!])", r"\\\1", line)
