"""Write a comparison down, for people and for papers.

    bash scripts/compare.sh experiments/quickstart.yaml     # writes runs/quickstart/report/

    report.html     one file that needs no network: eval/report/page/ with report.json and real answers put into it
    report.json     every figure that is shown
    report.md       a summary to paste
    outcomes.parquet    whether every model got every problem right, to analyse in another way
    figures/        each figure as PDF, SVG and CSV, and the main table as LaTeX

Everything is made aside and then put in its place, so that an error leaves an earlier report as it was.
"""

import csv
import html
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

from eval.report import plots, tables
from eval.verdict.collect import Study
from pipeline.errors import UserError
from pipeline.files import ROOT, write_json
from tokenizer import encode

PAGE = ROOT / "eval/report/page"
EMBEDDED = 4_000_000  # characters of answers in a page, about
PROBLEMS = 2_000  # of one set in a page
OUTCOME = ["experiment", "condition", "seed", "stage", "set", "id", "correct"]  # columns of outcomes.parquet


# --- in words -----------------------------------------------------------------------------------------------


def words(content: dict) -> dict[str, str]:
    """The verdict for a reader: a headline and its explanation."""
    found = content["primary"]
    treated, control = found["treated"], found["control"]
    label, lead, _ = found["label"].partition(", exploratory")
    margin = _points(found["margin"], "")
    headlines = {
        "supports": f"{treated} does better than {control}.",
        "refutes": f"{treated} does worse than {control}.",
        "equivalent": f"{treated} and {control} do equally well, give or take {margin} points.",
        "underpowered": f"Too little evidence to tell {treated} from {control}.",
    }
    done, planned = len(found["seeds"]), found["planned"]
    headline = headlines.get(label, f"Not finished: {done} of {planned} seeds so far.")
    if not done:
        return {
            "headline": headline,
            "explanation": f"No pair of runs has been evaluated after {found['stage']} yet.",
        }
    said = [_scored(found), _several(found) if done > 1 else _single(found), _floor(content)]
    if lead:
        said.append("Nothing was registered before these runs: a lead, and not a verdict.")
    if done < planned:
        said.append("Runs are missing, so there is no verdict yet.")
    return {"headline": headline, "explanation": " ".join(filter(None, said))}


def _points(share: float, sign: str = "+") -> str:
    return f"{100 * share:{sign}.1f}".replace("-", "−")


def _scored(found: dict) -> str:
    treated, control = found["treated"], found["control"]
    seeds = "one seed" if len(found["seeds"]) == 1 else f"{len(found['seeds'])} seeds"
    scored = found["accuracy"]
    right = f"{treated} gets {scored[treated]:.1%} right and {control} {scored[control]:.1%}"
    difference = f"a difference of {_points(found['difference'])} points"
    where = f"{found['problems']:,} problems of {found['metric']} after {found['stage']}"
    return f"Over {seeds} and {where}, {right}: {difference}."


def _single(found: dict) -> str:
    treated, control, p = found["treated"], found["control"], tables.p_value(found["p"])
    alone = f"Only {treated} is right on {found['only_treated_right']} problems,"
    alone += f" only {control} on {found['only_control_right']}"
    return (
        f"{alone} (exact McNemar p {p if p[0] == '<' else f'= {p}'}). The interval is about these two models"
        " on problems like these: it says nothing about other seeds, so a single seed is always"
        " underpowered."
    )


def _several(found: dict) -> str:
    (low, high), (low90, high90), margin = found["interval"], found["equivalence"], found["margin"]
    interval = (
        f"The 95% interval, for other seeds and other problems, runs from {_points(low)} to {_points(high)}"
    )
    narrow = f"the 90% interval, from {_points(low90)} to {_points(high90)},"
    if low > 0 or high < 0:
        return f"{interval}, {'above' if low > 0 else 'below'} 0."
    if -margin < low90 and high90 < margin:
        return f"{interval} and includes 0; {narrow} lies within the margin of ±{_points(margin, '')}."
    said = f"{interval} and includes 0; {narrow} reaches beyond the margin of ±{_points(margin, '')}."
    plan = found.get("planning")
    if plan and plan["smallest_effect"] is not None:
        seen = _points(plan["smallest_effect"], "")
        said += f" With pairing like this, {len(found['seeds'])} seeds see {seen} points with 80% power"
        needed = plan["seeds_for_the_margin"]
        said += f"; the margin takes {needed:,} seeds." if needed else "."
    return said


def other_tests(found: dict) -> str:
    """What else was computed of a contrast over several seeds, in one line; empty where it was not."""
    if "paired_t" not in found:
        return ""
    correlation, spread = found["pairing"]["correlation"], found["pairing"]["spread"]
    low, high = found["crossed_bootstrap"]
    parts = [f"{name} p {p if p[0] == '<' else f'= {p}'}" for name, p in (
        ("seeds and problems together", tables.p_value(found["p"])),
        ("paired t", tables.p_value(found["paired_t"]["p"])),
        ("sign-flip", tables.p_value(found["sign_flip_p"])),
        ("equivalence", tables.p_value(found["equivalence_p"])),
    )]  # fmt: skip
    parts.append(f"crossed bootstrap {_points(low)} to {_points(high)} points")
    parts += [f"correlation of outcomes {correlation:.2f}"] if correlation is not None else []
    parts.append(f"spread over seeds {_points(spread, '')} points")
    return f"Tests: {', '.join(parts)}"


def _floor(content: dict) -> str:
    """A warning where neither condition does better than a program that does not read the question."""
    found = content["primary"]
    cells = content["scores"][found["stage"]]
    floor = cells[found["control"]]["sets"][found["metric"]]["floor"]
    if max(found["accuracy"].values()) > floor:
        return ""
    return f"Neither is above the floor of {floor:.1%}, a constant answer's, so there is little to compare."


def markdown(content: dict) -> str:
    """The summary to paste."""
    parts = [f"# {content['title']}"]
    if content["primary"]:
        parts += [
            f"**{content['sentence']}**",
            f"{content['words']['headline']} {content['words']['explanation']}",
        ]
        parts.append(other_tests(content["primary"]))
    else:
        parts.append("Side by side, described without a verdict: the experiments' runs are not paired.")
    parts.append("\n".join(f"- **Note:** {line}" for line in content["warnings"]))
    if content["primary"]:
        parts.append(tables.markdown(tables.contrast_rows(content)))
        if len(content["by_stage"]) > 1:
            parts.append(tables.markdown(tables.stage_rows(content)))
    parts.append(tables.markdown(tables.rows(content)))
    if strata := tables.strata_rows(content):
        said = content["figures"]["strata"]["note"]
        parts += [
            f"{content['question']['metric']} by kind of problem, with the number of problems:",
            tables.markdown(strata),
            said,
        ]
    parts.append(
        "Intervals of accuracies are for other problems (Wilson's) and, where there are several seeds, for other"
        " seeds too. The floor is what the best constant answer scores without reading. `report.html` has the"
        " figures."
    )
    return "\n\n".join(filter(None, parts)) + "\n"


# --- real answers -------------------------------------------------------------------------------------------


def replies(study: Study) -> dict:
    """Answers for the page: `sets`, the problems of each, and `blocks`, a model's answers to one, aligned.

    Whole blocks are taken until the page is full, those of the verdict first; `said` tells how much there is.
    """
    sets, blocks, size, offered = {}, [], 0, 0
    encoders = {name: encode.for_run(study.experiment, name) for name in study.experiment.conditions}
    for name, set_name, seed in _wanted(study):
        arms = [arm for arm in study.arms if arm.seed == seed and set_name in arm.items.get(name, ())]
        offered += len(arms)
        for arm in arms if size < EMBEDDED else ():
            rows = arm.outcomes(
                name, ["id", "question", "gold", "tokens", "answer", "correct", "error", "ended"], set_name
            )
            by_id = {row["id"]: row for row in rows}
            rows = [by_id[key] for key in arm.items[name][set_name].ids[:PROBLEMS]]
            sets.setdefault(set_name, [[row["question"], row["gold"]] for row in rows])
            answers = [_answer(encoders[arm.condition], row) for row in rows]
            size += len(json.dumps(answers))
            blocks.append(
                {"stage": name, "set": set_name, "seed": seed, "condition": arm.condition, "answers": answers}
            )
    whole = {
        key: len(items.ids)
        for arm in study.arms
        for each in arm.items.values()
        for key, items in each.items()
    }
    cut = "".join(
        f", of {key} the first {PROBLEMS:,} of {whole[key]:,}" for key in sets if whole[key] > PROBLEMS
    )
    said = f"{len(blocks)} of {offered} sets of answers are in this page{cut};"
    return {"sets": sets, "blocks": blocks, "said": f"{said} all are in each evaluation's outcomes.parquet."}


def _wanted(study: Study) -> Iterator[tuple[str, str, int]]:
    """(stage, set, seed) of everything that was answered in words, the most wanted first."""
    asked, (first, *others) = study.experiment.compare, study.experiment.seeds
    stages = [asked.stage, *(name for name in study.model_stages() if name != asked.stage)]
    found = dict.fromkeys(key for arm in study.arms for each in arm.items.values() for key in each)
    sets = [key for key in sorted(found, key=lambda key: key != asked.metric) if _in_words(study, key)]
    wanted = [(asked.stage, key, first) for key in sets]
    wanted += [(name, key, first) for key in sets[:1] for name in stages]
    wanted += [(asked.stage, key, seed) for seed in others for key in sets[:1]]
    wanted += [(name, key, seed) for seed in (first, *others) for name in stages for key in sets]
    return iter(dict.fromkeys(wanted))


def _in_words(study: Study, set_name: str) -> bool:
    spec = study.experiment.eval.sets.get(set_name)
    return spec is None or spec.task != "hellaswag"


def _answer(encoder: encode.Encoder, row: dict) -> list:
    """[pieces, answer as read, right, class, ended]; a piece is text, or [what a token says, its name]."""
    condition, pieces = encoder.condition, []
    for text, token in encoder.pieces(row["tokens"]):
        if token in encoder.fact_ids:
            pieces.append([text, condition.names[token - condition.base]])
        elif text:
            pieces.append(text)
    return [pieces, row["answer"], int(row["correct"]), row["error"], int(row["ended"])]


# --- two experiments ----------------------------------------------------------------------------------------


def beside(contents: list[dict], answers: list[dict]) -> tuple[dict, dict]:
    """Experiments side by side, described without a verdict: each one's conditions under its name."""
    first, names = contents[0], [content["experiment"] for content in contents]
    merged = {key: first[key] for key in ("vocabulary", "question")}
    merged |= {
        "experiment": "+".join(names),
        "title": " and ".join(names),
        "primary": None,
        "secondary": [],
        "by_stage": [],
    }
    merged |= {"conditions": {}, "scores": {}, "figures": {}, "runs": [], "warnings": [], "unplanned": []}
    said = {"sets": {}, "blocks": [], "said": " ".join(each["said"] for each in answers)}
    for content, each in zip(contents, answers):
        own = f"{content['experiment']}: "
        merged["conditions"] |= {own + key: mode for key, mode in content["conditions"].items()}
        merged["warnings"] += [own + line for line in content["warnings"]]
        other = [name for name, ids in content["problems"].items() if first["problems"].get(name, ids) != ids]
        merged["warnings"] += [
            f"{own}its {name} are other problems than those of {names[0]}." for name in other
        ]
        merged["unplanned"] += [own + line for line in content["unplanned"]]
        merged["runs"] += [
            run | {"arm": own + run["arm"], "condition": own + run["condition"]} for run in content["runs"]
        ]
        for name, cells in content["scores"].items():
            merged["scores"].setdefault(name, {}).update({own + key: cell for key, cell in cells.items()})
        for figure in content["figures"].values():
            _join(merged["figures"], figure, own)
        for set_name, problems in each["sets"].items():
            if said["sets"].setdefault(set_name, problems) != problems:
                said["sets"][own + set_name] = problems
        for block in each["blocks"]:
            known = own + block["set"] if own + block["set"] in said["sets"] else block["set"]
            said["blocks"].append(block | {"set": known, "condition": own + block["condition"]})
    return merged, said


def _join(figures: dict, figure: dict, own: str) -> None:
    """Add a figure's rows to those of the same figure; a contrast is a verdict's, and left out.

    A figure of another question than the first experiment's stands by itself."""
    named = [i for i, column in enumerate(figure["columns"]) if column in ("condition", "panel")]
    if not named:
        return
    rows = [[own + cell if i in named else cell for i, cell in enumerate(row)] for row in figure["rows"]]
    first = figures.setdefault(figure["id"], figure | {"rows": []})
    if first["title"] != figure["title"]:
        apart = {"id": f"{figure['id']}_{len(figures)}", "title": own + figure["title"], "rows": []}
        first = figures.setdefault(apart["id"], figure | apart)
    first["rows"].extend(rows)


# --- files --------------------------------------------------------------------------------------------------


def outcomes(studies: list[Study]) -> pa.Table:
    """A row for every problem that a model was asked: experiment, condition, seed, stage, set, id, correct."""
    parts = []
    for study, arm in ((study, arm) for study in studies for arm in study.arms):
        for name, set_name, items in ((n, s, i) for n, sets in arm.items.items() for s, i in sets.items()):
            own = (study.experiment.name, arm.condition, arm.seed, name, set_name)
            columns = [pa.repeat(value, len(items.ids)) for value in own]
            parts.append(pa.table([*columns, pa.array(items.ids.tolist()), items.correct], OUTCOME))
    return pa.concat_tables(parts) if parts else pa.table({name: [] for name in OUTCOME})


def write(content: dict, answers: dict, outcomes: pa.Table, directory: Path) -> Path:
    """Write the report; the path of its page."""
    aside = directory.with_name(f".{directory.name}.{os.getpid()}")
    try:
        _check_place(directory)
        (aside / "figures").mkdir(parents=True)
        write_json(aside / "report.json", content)
        (aside / "report.md").write_text(markdown(content), encoding="utf-8")
        (aside / "report.html").write_text(page(content, answers), encoding="utf-8")
        parquet.write_table(outcomes, aside / "outcomes.parquet", compression="zstd")
        main = tables.latex(
            tables.rows(content), f"{content['title']}: accuracy after every stage, 95% intervals"
        )
        (aside / "figures/table.tex").write_text(main, encoding="utf-8")
        for figure in content["figures"].values():
            plots.save(figure, aside / "figures")
            with open(aside / f"figures/{figure['id']}.csv", "w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([figure["columns"], *figure["rows"]])
        directory.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(directory / "figures", ignore_errors=True)
        for path in aside.iterdir():
            path.rename(directory / path.name)
    except OSError as error:
        raise UserError(f"{directory}: the report cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return directory / "report.html"


def _check_place(directory: Path) -> None:
    """Raises UserError where something else stands in the place of the report or of one of its parts."""
    folders, files = (
        (directory, directory / "figures"),
        ("report.html", "report.json", "report.md", "outcomes.parquet"),
    )
    odd = [path for path in folders if path.exists() and not path.is_dir()]
    odd += [directory / name for name in files if (directory / name).is_dir()]
    if odd:
        raise UserError(f"{odd[0]}: is in the way of the report; remove it")


def page(content: dict, answers: dict) -> str:
    """The page with everything put into it."""
    data = {"report": content, "answers": answers}
    filled = (PAGE / "report.html").read_text(encoding="utf-8")
    for name in re.findall(r"/\* ([\w.]+) \*/", filled):
        filled = filled.replace(f"/* {name} */", (PAGE / name).read_text(encoding="utf-8"))
    summary, title = (html.escape(words) for words in (markdown(content), content["title"]))
    filled = filled.replace("{{title}}", title).replace("{{summary}}", summary)
    packed = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return filled.replace("{{data}}", packed.replace("<", "\\u003c"))  # so that nothing in it ends the script
