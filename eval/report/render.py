"""The page of a report: its words, figures and runs as HTML, from report.json's content.

All of it stands in the page as it is; the scripts of page/ add what people click: the browser of real answers,
dark and light, the tables of numbers.
"""

import base64
import hashlib
import json
import re
from html import escape

from eval.report import plots, svg, tables, words
from eval.report.scales import difference, level, percent, width
from pipeline.files import ROOT

PAGE = ROOT / "eval/report/page"
STATES = {"done": "✓", "failed": "✕", "running": "…", "stopped": "‖", "unverified": "?", "waiting": "·"}
WARNINGS = 6  # shown without a click


class Markup(str):
    """Text that is HTML already; all other text is escaped."""


def tag(name: str, *children: object, **attributes: str | None) -> Markup:
    """An element; `class_` and `data_x` are written class and data-x, and children of None are left out."""
    given = {
        key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None
    }
    head = "".join(f' {key}="{escape(value)}"' for key, value in given.items())
    inner = "".join(
        each if isinstance(each, Markup) else escape(str(each)) for each in children if each is not None
    )
    return Markup(f"<{name}{head}>{inner}</{name}>")


def joined(parts) -> Markup:
    return Markup("".join(part for part in parts if part is not None))


def page(content: dict, answers: dict) -> str:
    """The page with everything put into it."""
    scripts = [(PAGE / name).read_text(encoding="utf-8") for name in ("dom.js", "answers.js", "page.js")]
    style, script = (PAGE / "report.css").read_text(encoding="utf-8"), "\n".join(scripts)
    parts = {"title": escape(content["title"]), "style": style, "script": script}
    parts["policy"] = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'"
    )
    parts["nav"], parts["main"] = _body(content, bool(answers["blocks"]))
    packed = json.dumps({"report": content, "answers": answers}, allow_nan=False, ensure_ascii=False,
                        separators=(",", ":"))  # fmt: skip
    parts["data"] = packed.replace("<", "\\u003c")  # so that nothing in it ends the script
    template = (PAGE / "report.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)  # one pass: what is put in stays


def _hash(text: str) -> str:
    """What a Content-Security-Policy calls a script or a style by: nothing else of its kind is obeyed."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _body(content: dict, with_answers: bool) -> tuple[str, str]:
    sections: dict[str, list[Markup]] = {}
    for figure in content["figures"].values():
        if figure["id"] != "differences":  # the verdict shows it
            sections.setdefault(figure["section"], []).append(card(figure, list(content["conditions"])))
    if with_answers:
        sections.setdefault("Answers", []).append(tag("div", id="replies-here"))
    sections["Runs"] = [runs(content)]
    anchors = {name: re.sub(r"\W+", "-", name.lower()) for name in sections}
    parts = [verdict(content), warnings(content["warnings"])]
    for name, cards in sections.items():
        parts += [tag("h2", name, id=anchors[name]), *cards]
    nav = joined(tag("a", name, href=f"#{anchor}") for name, anchor in anchors.items())
    return nav, joined(parts)


# --- figures ------------------------------------------------------------------------------------------------


def card(figure: dict, conditions: list[str]) -> Markup:
    inner = drawn(figure, conditions)
    return tag("section", tag("h3", figure["title"]), inner, class_="card", id=f"figure-{figure['id']}")


def drawn(figure: dict, conditions: list[str]) -> Markup:
    """A figure's note, legend, panels, and the place of its numbers, for who cannot see it or wants to know."""
    names = [tag("li", Markup(svg.swatch(swatch)), name) for name, swatch in plots.legend(figure, conditions)]
    panels = []
    for panel in plots.panels(figure, conditions):
        label = f"{figure['title']}{f': {panel.title}' if panel.title else ''}. The numbers stand in the table below."
        title = tag("h4", panel.title) if panel.title else None
        panels.append(tag("div", title, Markup(svg.themed(panel, label)), class_="panel"))
    summary = tag("summary", f"Numbers ({len(figure['rows']):,} rows)")
    return joined([
        tag("p", figure["note"], class_="note") if figure["note"] else None,
        tag("ul", *names, class_="legend") if names else None,
        tag("div", *panels, class_=f"panels {figure['kind']}"),
        tag("details", summary, class_="numbers", data_figure=figure["id"]),
    ])  # fmt: skip


def table(head: list[str], rows: list[Markup], numeric: tuple = (), class_: str = "scroll") -> Markup:
    cells = [
        tag("th", name, scope="col", class_="n" if i in numeric else None) for i, name in enumerate(head)
    ]
    whole = tag("table", tag("thead", tag("tr", *cells)), tag("tbody", *rows))
    return tag("div", whole, class_=class_, tabindex="0")


# --- the verdict --------------------------------------------------------------------------------------------


def verdict(content: dict) -> Markup:
    primary = content["primary"]
    if not primary:
        over = "Side by side, described, without a verdict"
        return joined([tag("p", over, class_="over"), tag("h1", content["title"])])
    treated, control = primary["treated"], primary["control"]
    question = f"Does {treated} do better than {control} on {primary['metric']} after {primary['stage']}?"
    seeds = "one seed" if len(content["seeds"]) == 1 else f"{len(content['seeds'])} seeds"
    about = f"vocabulary {content['vocabulary']}, {len(content['conditions'])} conditions, {seeds}"
    shown = []
    if primary["difference"] is not None:
        shown = [
            drawn(content["figures"]["differences"], list(content["conditions"])),
            tiles(content),
            tests(primary),
        ]
    badge = tag("span", primary["label"], class_=f"badge {primary['label'].split()[0].rstrip(',')}")
    explanation = joined(
        tag("p", line) for line in (content["words"]["explanation"], words.ladder(content)) if line
    )
    return joined([
        tag("p", f"{question} · {about}", class_="over"),
        tag("h1", content["words"]["headline"]),
        tag("section", badge, explanation, *shown, class_="card", aria_label="Verdict"),
        secondary(content["secondary"]) if content["secondary"] else None,
    ])  # fmt: skip


def tiles(content: dict) -> Markup:
    primary = content["primary"]
    unit, named = primary["unit"], (primary["treated"], primary["control"])
    shown = [(name, level(primary["mean"][name], unit), "") for name in named]
    if primary["floor"] is not None:
        score = content["scores"][primary["stage"]][primary["control"]]["sets"][content["question"]["set"]]
        same = primary["floor"] == score["floor"]  # pass@k has a floor of several constants
        shown.append(
            ("floor", percent(primary["floor"]), f"always “{score['floor_answer']}”" if same else "")
        )
    shown += [
        ("p", tables.p_value(primary["p"]), ""),
        ("seeds", str(len(primary["seeds"])), f"of {primary['planned']}"),
        ("problems", f"{primary['problems']:,}", ""),
    ]
    parts = [
        tag("div", tag("dt", name), tag("dd", value, tag("small", f" {more}") if more else None))
        for name, value, more in shown
    ]
    return tag("dl", *parts, class_="tiles")


def tests(primary: dict) -> Markup:
    """Every test of the difference, and what it speaks of."""
    seeds, unit = len(primary["seeds"]), primary["unit"]
    margin = width(primary["margin"], unit)
    if seeds == 1:
        about = "the same problems; these two models, not other seeds"
        name = "Exact McNemar" if "only_treated_right" in primary else "Paired t over problems"
        rows = [(name, primary["interval"], primary["p"], about)]
    else:
        least = f"at best {tables.p_value(2 / 2**seeds)} with {seeds} seeds"
        t, these = primary["paired_t"], "other seeds, these problems"
        rows = [
            (
                "Seeds and problems together: decides",
                primary["interval"],
                primary["p"],
                "other seeds and problems",
            ),
            (
                "Two one-sided tests",
                primary["equivalence"],
                primary["equivalence_p"],
                f"90%; it is within {margin}",
            ),
            ("Paired t over seeds", t["interval"], t["p"], these),
            ("Exact sign-flip over seeds", None, primary["sign_flip_p"], f"{these}; {least}"),
            ("Crossed bootstrap", primary["crossed_bootstrap"], None, "resamples both; not for few seeds"),
        ]
    body = [
        tag(
            "tr",
            tag("td", name),
            number(interval(ends, unit)),
            number(tables.p_value(p)),
            tag("td", what, class_="wrap"),
        )
        for name, ends, p, what in rows
    ]
    summary = tag("summary", "Every test of this difference")
    inner = table(["test", f"interval, {unit}", "p", "what it speaks of"], body, (1, 2))
    return tag("details", summary, inner, pairing(primary), class_="numbers")


def pairing(primary: dict) -> Markup | None:
    if "pairing" not in primary:
        return None
    correlation, deviation = primary["pairing"]["correlation"], primary["pairing"]["spread"]
    message = "A condition answers all problems alike, so no correlation is known."
    if correlation is not None:
        message = f"The two conditions' outcomes on a problem correlate by {correlation:.2f}."
    spread = width(deviation, primary["unit"]).removeprefix("±")
    message += f" Beyond chance, the difference has a standard deviation over seeds of {spread}."
    return tag("p", message, class_="note")


def secondary(contrasts: list[dict]) -> Markup:
    rows = []
    for each in contrasts:
        size = "–" if each["difference"] is None else difference(each["difference"], each["unit"])
        p_values = (tables.p_value(each.get(key)) for key in ("p", "p_holm"))
        cells = [number(words) for words in (size, interval(each["interval"], each["unit"]), *p_values)]
        rows.append(
            tag("tr", tag("td", f"{each['treated']} − {each['control']}"), *cells, tag("td", each["label"]))
        )
    head = ["contrast", "difference", "95% interval", "p", "p (Holm)", "by itself"]
    note = tag("p", tables.HOLM, class_="note")
    return tag(
        "section", tag("h3", "Secondary contrasts"), note, table(head, rows, (1, 2, 3, 4)), class_="card"
    )


def number(words: str) -> Markup:
    return tag("td", words, class_="n")


def interval(ends: list[float] | None, unit: str) -> str:
    return "–" if ends is None else " to ".join(difference(end, unit) for end in ends)


# --- warnings and runs --------------------------------------------------------------------------------------


def warnings(messages: list[str]) -> Markup | None:
    if not messages:
        return None
    lists = [
        tag("ul", *(tag("li", line) for line in part)) for part in (messages[:WARNINGS], messages[WARNINGS:])
    ]
    more = tag("summary", f"{len(messages) - WARNINGS} more")
    rest = tag("details", more, lists[1], class_="numbers") if len(messages) > WARNINGS else None
    title = "Before you believe this"
    return tag("aside", tag("h3", title), lists[0], rest, class_="warnings", aria_label=title)


def runs(content: dict) -> Markup:
    names = list(dict.fromkeys(name for run in content["runs"] for name in run["stages"]))
    counts: dict[str, int] = {}
    for run in content["runs"]:
        for result in run["stages"].values():
            counts[result["state"]] = counts.get(result["state"], 0) + 1
    rows = [
        tag("tr", tag("th", run["arm"], scope="row"), *(_run(run, name) for name in names))
        for run in content["runs"]
    ]
    also = None
    if content["unplanned"]:
        lines = tag("ul", *(tag("li", line) for line in content["unplanned"]), class_="note")
        also = joined([tag("h4", "Also on disk, and no part of this"), lines])
    note = "   ".join(f"{STATES[state]} {state} {count}" for state, count in counts.items())
    whole = table(["arm", *names], rows, class_="scroll runs")
    return tag("section", tag("h3", "Every run that the file plans"), tag("p", note, class_="note"), whole, also,
               class_="card")  # fmt: skip


def _run(run: dict, name: str) -> Markup:
    result = run["stages"].get(name)
    if result is None:
        return tag("td")
    state, detail = result["state"], result["detail"]
    lines = [f"{run['arm']} {name}: {state} {detail}"]
    lines += [
        f"{key} {str(result['record'][key])[:16]}"
        for key in ("device", "host", "commit", "source")
        if result["record"].get(key)
    ]
    sign = tag("span", STATES[state], class_=f"state {state}", aria_hidden="true")
    return tag("td", sign, tag("span", f"{state} {detail}", class_="unseen"), title="\n".join(lines))
