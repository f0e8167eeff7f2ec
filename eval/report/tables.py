"""The tables of a comparison, from report.json's content: as text, Markdown and LaTeX."""

from eval.report.scales import difference
from eval.verdict import at_k

Table = list[list[str]]  # a header and rows
HOLM = (
    "p (Holm) is adjusted for the number of secondary contrasts. Intervals and the other p-values are not"
    " adjusted: each speaks of its contrast alone."
)


def rows(content: dict) -> Table:
    """Accuracy with its 95% interval, the other sets and probes, fact tokens per answer, bits per byte."""
    scores, metric = content["scores"], content["question"]["set"]
    sets = dict.fromkeys(key for cells in scores.values() for cell in cells.values() for key in cell["sets"])
    others = sorted((key for key in sets if key != metric), key=lambda key: not key.startswith("probes."))
    header = [
        "stage",
        "condition",
        f"{metric} [95%]",
        "floor",
        *(key.removeprefix("probes.") for key in others),
    ]
    table = [[*header, "facts/answer", "bits/byte"]]
    for name, cells in scores.items():
        for condition, cell in cells.items():
            score, bits = cell["sets"].get(metric), cell["bits_per_byte"]
            row = [name, condition, _interval(score), _percent(score, "floor")]
            row += [_percent(cell["sets"].get(key), "accuracy") for key in others]
            used = score and score.get("fact_tokens_per_response")
            table.append(
                [*row, "–" if used is None else f"{used:.2f}", f"{bits['all']:.3f}" if bits else "–"]
            )
    return table


def sample_rows(content: dict) -> Table:
    """What all the samples of each set are worth, with 95% intervals, and the floors: that of one constant answer, and
    for pass@k, which takes k answers, that of the k best. Empty without samples."""
    body, header = [], []
    for name, cells in content["scores"].items():
        for condition, cell in cells.items():
            scores = cell["samples"]
            for set_name, last in at_k.of_all(scores).items():
                heads = {kind: key.removeprefix(f"{set_name}.") for kind, key in last.items()}
                floors = {"floor": last["mean"], f"floor of {heads['pass']}": last["pass"]}
                header = header or ["set", "stage", "condition", *heads.values(), *floors]
                row = [set_name, name, condition, *(_interval(scores[key]) for key in last.values())]
                body.append([*row, *(_percent(scores[key], "floor") for key in floors.values())])
    return [header, *body] if body else []


def gain_rows(content: dict) -> Table:
    """What choosing among all samples gains over drawing one, in points, by condition and between them."""
    arms = dict.fromkeys(row["of"] for row in content["gains"])
    by_choice: dict[tuple[str, ...], list[str]] = {}
    for row in content["gains"]:
        gain = _signed(row["gain"], "points")
        if row["interval"]:
            gain += f" [{', '.join(_signed(x, 'points') for x in row['interval'])}]"
        by_choice.setdefault((row["set"], row["stage"], row["choice"]), []).append(gain)
    body = [[*key, *gains] for key, gains in by_choice.items()]
    return [["set", "stage", "choice", *arms], *body] if body else []


def strata_rows(content: dict) -> Table:
    """The primary metric on each stratum of problems apart, with how many there are; empty without strata."""
    scores, metric = content["scores"], content["question"]["set"]
    strata = {
        (name, condition): cell["sets"].get(metric, {}).get("strata", {})
        for name, cells in scores.items() for condition, cell in cells.items()
    }  # fmt: skip
    sizes: dict[str, set[int]] = {}  # experiments side by side may differ
    for each in strata.values():
        for key, score in each.items():
            sizes.setdefault(key, set()).add(round(score["n"]))
    keys = list(sizes)
    body = [[*arm, *(_percent(each.get(key), "accuracy") for key in keys)] for arm, each in strata.items()]
    names = [f"{key.replace('_', ' ')} ({'/'.join(map(str, sorted(sizes[key])))})" for key in keys]
    return [["stage", "condition", *names], *body] if keys else []


def contrast_rows(content: dict) -> Table:
    """The primary contrast and the secondary ones."""
    table = [["contrast", *_head(content), "p (Holm)", "seeds", "verdict"]]
    for each in (content["primary"], *content["secondary"]):
        row = [f"{each['treated']} − {each['control']}", *_contrast(each), p_value(each.get("p_holm"))]
        table.append([*row, f"{len(each['seeds'])} of {each['planned']}", each["label"]])
    return table


def stage_rows(content: dict) -> Table:
    """The primary contrast after every stage: described, not decided."""
    named = f"{content['primary']['treated']} − {content['primary']['control']} after"
    rows = [[each["stage"], *_contrast(each), str(len(each["seeds"]))] for each in content["by_stage"]]
    return [[named, *_head(content), "seeds"], *rows]


def _head(content: dict) -> list[str]:
    return [f"difference in {content['question']['unit']}", "95% interval", "p"]


def _contrast(contrast: dict) -> list[str]:
    if contrast["difference"] is None:
        return ["–"] * 3
    value, low, high = (_signed(x, contrast["unit"]) for x in (contrast["difference"], *contrast["interval"]))
    return [value, f"[{low}, {high}]", p_value(contrast["p"])]


def _signed(value: float, unit: str) -> str:
    """With the minus that terminals and LaTeX know."""
    return difference(value, unit).replace("−", "-")


def p_value(p: float | None) -> str:
    return "–" if p is None else "<.001" if p < 0.001 else f"{p:.3f}".replace("0.", ".", 1)


def _interval(score: dict | None) -> str:
    if not score:
        return "–"
    return f"{score['accuracy']:.1%} [{100 * score['low']:.1f}, {100 * score['high']:.1f}]"


def _percent(score: dict | None, key: str) -> str:
    return f"{score[key]:.1%}" if score else "–"


# --- as what ------------------------------------------------------------------------------------------------


def text(table: Table) -> str:
    """Columns aligned with spaces."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def markdown(table: Table) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
    return "\n".join([lines[0], "|" + " --- |" * len(table[0]), *lines[1:]])


def latex(table: Table, caption: str) -> str:
    """A table for a paper that loads booktabs; a rule between stages."""
    signs = {
        "\\": r"\textbackslash{}",
        "–": "--",
        "−": "$-$",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
    signs |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
    escape = str.maketrans(signs)
    lines, stage = [], None
    for row in table[1:]:
        if stage not in (None, row[0]):
            lines.append(r"\midrule")
        shown, stage = ["" if row[0] == stage else row[0], *row[1:]], row[0]
        lines.append(" & ".join(cell.translate(escape) for cell in shown) + r" \\")
    head = " & ".join(cell.translate(escape) for cell in table[0]) + r" \\"
    columns = "ll" + "r" * (len(table[0]) - 2)
    top = [
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{caption.translate(escape)}}}",
        f"\\begin{{tabular}}{{{columns}}}",
    ]
    return (
        "\n".join(
            [*top, r"\toprule", head, r"\midrule", *lines, r"\bottomrule", "\\end{tabular}", "\\end{table}"]
        )
        + "\n"
    )
