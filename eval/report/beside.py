"""Two or more experiments side by side: each one's conditions under its name, described without a verdict."""


def beside(contents: list[dict], answers: list[dict]) -> tuple[dict, dict]:
    """One content and one set of answers of several."""
    first, names = contents[0], [content["experiment"] for content in contents]
    merged = {key: first[key] for key in ("vocabulary", "question")}
    merged |= {
        "experiment": "+".join(names),
        "title": " and ".join(names),
        "primary": None,
        "secondary": [],
        "by_stage": [],
        "gains": [],
    }
    merged |= {"conditions": {}, "scores": {}, "figures": {}, "runs": [], "warnings": [], "unplanned": []}
    merged_answers: dict = {"sets": {}, "blocks": []}
    merged_answers["message"] = " ".join(each["message"] for each in answers)
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
            if merged_answers["sets"].setdefault(set_name, problems) != problems:
                merged_answers["sets"][own + set_name] = problems
        for block in each["blocks"]:
            known = own + block["set"] if own + block["set"] in merged_answers["sets"] else block["set"]
            merged_answers["blocks"].append(block | {"set": known, "condition": own + block["condition"]})
    return merged, merged_answers


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
