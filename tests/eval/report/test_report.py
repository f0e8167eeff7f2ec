"""The report: all that is in it is what the outcomes say, and the page works in a real browser."""

import csv
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree

import pyarrow.parquet as parquet
import pytest
from PIL import Image

from eval.report import answers, pdf, plots, render, shapes, svg, tables, words
from eval.report import write as report
from eval.verdict import compare
from eval.verdict.collect import collect
from pipeline.errors import UserError
from pipeline.experiment import load
from tests.eval import synthetic
from tests.eval.verdict.test_compare import respoil
from tokenizer.vocabularies import multiplication, squares

SPOILT = '{{data}} <img src="http://example.com/y.png"> [a](http://example.com) `' + "\n# title"
HOSTILE = '</script><script>document.title = "broken"</script><img src="http://example.com/x.png">'
SVG = "{http://www.w3.org/2000/svg}"
CONDITIONS = ("baseline", "mul_tokens", "placebo")


def make(folder, patch, vocabulary="multiplication"):
    """A study of three conditions × two seeds, one question of it hostile, compared; (file, RUNS of it)."""
    path = synthetic.write_file(
        folder / "study.yaml", CONDITIONS, seeds=2, problems=12, secondary=[("mul_tokens", "placebo")]
    )
    path.write_text(f"{path.read_text()}vocabulary: {vocabulary}\n")
    patch.setenv("RUNS", str(folder / "runs"))
    with synthetic.quick():
        for seed in (0, 1):
            for condition in CONDITIONS:
                synthetic.run(path, condition, seed, 0.1)
                hostile = lambda rows: [rows[0] | {"question": HOSTILE}, *rows[1:]]  # noqa: E731
                respoil(folder / f"runs/study/{condition}-s{seed}/eval_grpo", hostile)
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        path = make(tmp_path_factory.mktemp("study"), patch)
        compare.main([str(path)])
        yield path


@pytest.fixture(scope="module")
def directory(study):
    return study.parent / "runs/study/report"


class Page(HTMLParser):
    """What a page would fetch, and its scripts."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.scripts, self.tags = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.fetched += [
            value for key, value in attributes if key in ("src", "href") and not value.startswith("#")
        ]
        if tag == "script":
            self.scripts.append([dict(attributes), ""])

    def handle_data(self, text):
        if self.scripts and self.lasttag == "script":
            self.scripts[-1][1] += text


def embedded(directory):
    page = Page((directory / "report.html").read_text())
    return json.loads(next(text for attributes, text in page.scripts if attributes.get("id") == "data"))


# --- the files ----------------------------------------------------------------------------------------------


def test_the_page_is_one_file_that_fetches_nothing(directory):
    text = (directory / "report.html").read_text()
    page = Page(text)
    assert page.fetched == [] and "link" not in page.tags and "img" not in page.tags
    assert not re.search(
        r"@import|url\(|fetch\(|XMLHttpRequest|import\(", text.replace(json.dumps(HOSTILE), "")
    )
    assert len(page.scripts) == 2


def test_the_page_holds_report_json_and_nothing_else_is_shown(directory):
    assert embedded(directory)["report"] == json.loads((directory / "report.json").read_text())


def test_every_figure_is_there_as_svg_and_csv(directory):
    figures = json.loads((directory / "report.json").read_text())["figures"]
    expected = "accuracy strata differences by_stage curves dev_accuracy dev_likelihood model_bits fact_use facts patching dose rewards prompts compute"
    assert set(figures) == {*expected.split(), "compute_bits", "errors", "budgets"}
    for key, figure in figures.items():
        with open(directory / f"figures/{key}.csv", newline="") as file:
            header, *rows = csv.reader(file)
        assert header == figure["columns"]
        assert rows == [["" if cell is None else str(cell) for cell in row] for row in figure["rows"]]
        drawing = ElementTree.parse(directory / f"figures/{key}.svg").getroot()
        assert figure["title"] in {text.text for text in drawing.iter(f"{SVG}text")}
    names = {path.name for path in (directory / "figures").iterdir()}
    assert names == {f"{key}.{kind}" for key in figures for kind in ("svg", "csv")} | {"table.tex"}


def test_papers_get_the_same_drawings_as_pdf(directory, tmp_path):
    content = json.loads((directory / "report.json").read_text())
    figures = {
        key: content["figures"][key] for key in ("differences", "rewards", "errors", "facts", "compute")
    }
    assert {figure["kind"] for figure in figures.values()} == set(plots.KINDS)
    (tmp_path / "report.json").write_text(json.dumps(content | {"figures": figures}))
    pdf.main([str(tmp_path)])
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == set(figures)
    assert all(path.read_bytes().startswith(b"%PDF") for path in (tmp_path / "figures").iterdir())
    with pytest.raises(UserError, match="no report.json there"):
        pdf.main([str(tmp_path / "figures")])


def test_a_figure_is_drawn_once_for_page_and_file(directory):
    """Every value has its mark at the same place of its axis; colours are the page's or those of light paper."""
    content = json.loads((directory / "report.json").read_text())
    page, conditions = (directory / "report.html").read_text(), list(content["conditions"])
    for figure in content["figures"].values():
        for panel in plots.panels(figure, conditions):
            marks = "".join(svg._shape(shape, svg.THEMED) for shape in panel.shapes)
            assert marks in page
    for role, color in svg.COLORS.items():
        assert re.search(rf"--{role}: {color}", render.PAGE.joinpath("report.css").read_text())


def test_dots_stand_where_their_values_are():
    rows = [
        ["a", "x", None, 0.25, 0.0, 0.5],
        ["a", "y", None, 0.75, 0.5, 1.0],
        ["a", "y", 3, 0.5, None, None],
    ]
    encoding = {"group": "g", "series": "s", "value": "v", "low": "l", "high": "h", "format": "percent"}
    figure = {
        "kind": "dots",
        "columns": ["g", "s", "seed", "v", "l", "h"],
        "rows": rows,
        "encoding": encoding,
    }
    (panel,) = plots.panels(figure, ["x", "y"])
    marks = [shape for shape in panel.shapes if isinstance(shape, shapes.Mark)]
    (x, seed, y) = sorted(marks, key=lambda mark: mark.x)
    assert seed.x - x.x == pytest.approx(y.x - seed.x) and seed.radius < x.radius
    assert (x.color, y.color, x.kind, y.kind) == ("c0", "c1", 0, 1) and x.y < y.y == seed.y
    bars = [shape.points for shape in panel.shapes if isinstance(shape, shapes.Line) and shape.width == 2]
    assert [(a + b) / 2 for (a, _), (b, _) in bars] == pytest.approx([x.x, y.x])


def test_messages_are_shown_and_do_nothing(directory):
    """An error text can hold anything: markup, a placeholder of the page, a formula."""
    content = json.loads((directory / "report.json").read_text())
    content["warnings"] = [SPOILT]
    page = render.page(content, embedded(directory)["answers"])
    assert page.count('"answers":{') == 1 and "{{data}}" in page
    assert Page(page).fetched == [] and "img" not in Page(page).tags
    summary = words.markdown(content)
    assert "<img" not in summary and "\n# title" not in summary and r"\[a\](http://example.com) \`" in summary


def test_a_text_that_a_spreadsheet_would_compute_stays_a_text(tmp_path):
    cells = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "a=1", -1.5]
    report.write_csv({"columns": ["a"], "rows": [[cell] for cell in cells]}, tmp_path / "a.csv")
    with open(tmp_path / "a.csv", newline="") as file:
        rows = [row for (row,) in list(csv.reader(file))[1:]]
    assert rows == ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\t=1", "a=1", "-1.5"]


def test_every_outcome_is_written_once(directory):
    content = json.loads((directory / "report.json").read_text())
    rows = parquet.read_table(directory / "outcomes.parquet").to_pylist()
    keys = {(row["condition"], row["seed"], row["stage"], row["set"], row["id"]) for row in rows}
    assert len(keys) == len(rows) and {row["experiment"] for row in rows} == {content["experiment"]}
    for name, cells in content["scores"].items():
        for condition, cell in cells.items():
            for set_name, score in cell["sets"].items():
                asked = (condition, name, set_name)
                of = [row for row in rows if (row["condition"], row["stage"], row["set"]) == asked]
                assert sum(row["correct"] for row in of) / len(of) == pytest.approx(score["accuracy"])
                assert len(of) == score["n"] * len(cell["seeds"])


def test_figures_agree_with_the_scores(directory):
    content = json.loads((directory / "report.json").read_text())
    for set_name, name, condition, seed, value, low, high, floor, n in content["figures"]["accuracy"]["rows"]:
        score = content["scores"][name][condition]["sets"][set_name]
        assert value == (score["accuracy"] if seed is None else score["by_seed"][str(seed)])
        assert seed is not None or (low, high, floor) == (score["low"], score["high"], score["floor"])
        assert n == score["n"]
    for figure, part in (("errors", "class"), ("patching", "answer"), ("prompts", "what")):
        figure = content["figures"][figure]
        sums: dict = {}
        for row in figure["rows"]:
            key = tuple(cell for cell, column in zip(row, figure["columns"]) if column not in (part, "share"))
            sums[key] = sums.get(key, 0) + row[figure["columns"].index("share")]
        assert list(sums.values()) == pytest.approx([1.0] * len(sums))


def test_bits_per_byte_of_all_documents_are_of_invertible_conditions_only(directory):
    figures = json.loads((directory / "report.json").read_text())["figures"]
    for key in ("curves", "model_bits"):
        shown = {}
        for row in figures[key]["rows"]:
            shown.setdefault("all" if "all" in row[0] else "without", set()).update(
                set(row) & set(CONDITIONS)
            )
        assert shown == {"without": set(CONDITIONS), "all": {"baseline", "mul_tokens"}}


def test_every_model_has_its_place_by_training_and_by_answer(directory):
    """1e12 FLOPs are recorded of each stage that trains; a model's are those of its ancestors too."""
    content = json.loads((directory / "report.json").read_text())
    rows = {tuple(row[:4]): row[4:] for row in content["figures"]["compute"]["rows"]}
    for condition in CONDITIONS:
        for count, name in enumerate(("export", "sft_tinygsm", "grpo"), 1):
            score = content["scores"][name][condition]["sets"]["word_problems"]
            whole = [score[key] for key in ("accuracy", "low", "high")]
            assert rows["training FLOPs", name, condition, None] == pytest.approx([count * 1e12, *whole])
            assert rows["training FLOPs", name, condition, 1] == [
                count * 1e12,
                score["by_seed"]["1"],
                None,
                None,
            ]
            place = rows["tokens an answer", name, condition, None][0]
            assert place == pytest.approx(score["tokens_per_response"])
    bits = content["figures"]["compute_bits"]["rows"]
    assert {row[2] for row in bits} == {"baseline", "mul_tokens"}  # placebo cannot write a reference answer


def test_looks_at_dev_problems_are_curves(study, directory):
    figures = json.loads((directory / "report.json").read_text())["figures"]
    rows = {tuple(row[:4]): row[4] for row in figures["dev_accuracy"]["rows"]}
    assert {row[0] for row in rows} == {"grpo: greedy", "grpo: pass@1", "grpo: pass@4"}
    log = (study.parent / "runs/study/baseline-s1/grpo/metrics.jsonl").read_text().splitlines()
    (line,) = [line for line in map(json.loads, log) if line["step"] == 15 and "dev_loss" in line]
    assert rows["grpo: pass@4", "baseline", 1, 15] == pytest.approx(line["dev_pass@4"], rel=1e-5)
    assert {row[3] for row in rows} == {5, 10, 15, 20} and {row[2] for row in rows} == {None, 0, 1}
    assert {row[0] for row in figures["dev_likelihood"]["rows"]} == {"grpo: loss"}


def test_the_summary_and_the_tables_say_the_same(directory):
    content = json.loads((directory / "report.json").read_text())
    summary, latex = (directory / "report.md").read_text(), (directory / "figures/table.tex").read_text()
    assert content["sentence"] in summary and content["words"]["explanation"] in summary
    table = tables.rows(content)
    assert tables.markdown(table) in summary and len(table) == 1 + 3 * 3
    score = content["scores"]["grpo"]["mul_tokens"]["sets"]["word_problems"]["accuracy"]
    assert f"{score:.1%}" in summary and f"{score:.1%}".replace("%", r"\%") in latex
    lines = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {len(table[0]) - 1}
    assert "mul\\_tokens" in latex and not re.search(r"(?<!\\)[%_#]", latex.split("\\toprule")[1])


def test_the_contrast_after_every_stage_is_in_the_summary(directory):
    content, summary = (
        json.loads((directory / "report.json").read_text()),
        (directory / "report.md").read_text(),
    )
    for found in content["by_stage"]:
        low, high = (f"{100 * end:+.1f}" for end in found["interval"])
        assert f"| {found['stage']} | {100 * found['difference']:+.1f} | [{low}, {high}] |" in summary
    assert len(content["by_stage"]) == 3


def test_an_error_leaves_the_earlier_report(study, directory, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    monkeypatch.setattr(svg, "save", lambda *figure: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        compare.main([str(study)])
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before
    assert [path.name for path in directory.parent.glob("*report*")] == ["report"]


# --- answers and facts --------------------------------------------------------------------------------------


def rows_of(study, condition, seed, set_name, name="grpo"):
    table = parquet.read_table(study.parent / f"runs/study/{condition}-s{seed}/eval_{name}/outcomes.parquet")
    return [row for row in table.to_pylist() if row["set"] == set_name]


def test_every_answer_is_shown_as_it_reads_with_its_fact_tokens(study, directory):
    answers = embedded(directory)["answers"]
    assert answers["message"].startswith("72 of 72 sets")  # 3 stages × 4 sets in words × 6 arms
    assert (answers["blocks"][0]["stage"], answers["blocks"][0]["set"]) == ("grpo", "word_problems")
    used = 0
    for block in answers["blocks"]:
        rows = rows_of(study, block["condition"], block["seed"], block["set"], block["stage"])
        problems = answers["sets"][block["set"]]
        for (pieces, read, right, error, ended), row, (_, gold) in zip(
            block["answers"], rows, problems, strict=True
        ):
            assert (
                "".join(piece if isinstance(piece, str) else piece[0] for piece in pieces)
                == row["completion"]
            )
            assert sum(not isinstance(piece, str) for piece in pieces) == row["facts"]
            assert (read, bool(right), error, bool(ended), gold) == (
                row["answer"],
                row["correct"],
                row["error"],
                row["ended"],
                row["gold"],
            )
            used += row["facts"]
    assert used and answers["sets"]["word_problems"][0][0] == HOSTILE
    facts = {
        tuple(p) for b in answers["blocks"] for a in b["answers"] for p in a[0] if not isinstance(p, str)
    }
    assert ("", "<MUL_1_1_1>") in facts and any(
        f"<MUL_{a}" in name and said.startswith(f"{a} *") for said, name in facts for a in range(2, 9)
    )


def test_a_page_that_is_full_says_what_it_leaves_out(study, monkeypatch):
    collected = collect(load(study))
    monkeypatch.setattr(answers, "EMBEDDED", 1)
    monkeypatch.setattr(answers, "PROBLEMS", 5)
    found = answers.replies(collected)
    assert found["message"].startswith(
        "3 of 72 sets of answers are in this page, of word_problems the first 5 of 12;"
    )
    assert [(block["condition"], len(block["answers"])) for block in found["blocks"]] == [
        (c, 5) for c in CONDITIONS
    ]


def test_heat_maps_count_facts_where_the_vocabulary_puts_them(study, directory):
    figure = json.loads((directory / "report.json").read_text())["figures"]["facts"]
    cells = {
        (panel, measure.split()[0], fact): (row, column, value)
        for panel, measure, fact, row, column, value in figure["rows"]
    }
    rows = [row for seed in (0, 1) for row in rows_of(study, "mul_tokens", seed, "word_problems")]
    for index in range(len(multiplication.FACTS)):
        fact = " = ".join(multiplication.spell(index))
        written = sum(i == index for row in rows for _, _, i in multiplication.find(row["completion"]))
        assert cells["mul_tokens", "true", fact] == (
            *multiplication.cell(index),
            pytest.approx(100 * written / len(rows), rel=1e-5),
        )
    asked = [
        row
        for seed in (0, 1)
        for row in rows_of(study, "baseline", seed, "probes.table")
        if row["question"] in ("What is 6 * 9?", "What is 9 * 6?")
    ]
    assert len(asked) == 4
    assert cells["baseline", "share", "6 * 9 = 54"] == (6, 9, 25 * sum(row["correct"] for row in asked))


def test_another_vocabulary_has_its_own_report(tmp_path, monkeypatch):
    content = compare.build(collect(load(make(tmp_path, monkeypatch, "squares"))))
    figure = content["figures"]["facts"]
    assert {(row[2], *row[3:5]) for row in figure["rows"]} == {
        (" = ".join(squares.spell(i)), *squares.cell(i)) for i in range(19)
    }
    assert "probes.neighbours" in content["scores"]["grpo"]["baseline"]["sets"]


# --- in a browser -------------------------------------------------------------------------------------------

DRIVER = """
<script>
const said = {}, one = (s) => document.querySelector(s), all = (s) => [...document.querySelectorAll(s)];
const press = (key) =>
  document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const chips = () => all(".filter span").map((span) => span.textContent);
said.chips = chips();
press("/");
said.searching = document.activeElement.type;
one("#replies").focus();
press("2");
said.filtered = [one(".filter :checked").value, one("#replies [role=status]").textContent];
press("j");
said.walked = document.activeElement.tagName;
press("1");
const search = one("input[type=search]");
search.value = "<mul_";
search.dispatchEvent(new Event("input"));
said.found = chips()[0];
one("#theme").click();
said.theme = document.documentElement.dataset.theme;
one("details[data-figure]").open = true;
setTimeout(() => {
  said.numbers = !!one("details[data-figure] table");
  said.figures = all("[data-figure]").map((details) => details.dataset.figure);
  said.panels = all(".panel > svg").filter((svg) => svg.getBoundingClientRect().width > 200).length;
  said.wide = document.documentElement.scrollWidth > innerWidth;
  document.body.dataset.said = JSON.stringify(said);
}, 500);
</script>
"""


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """Open a page in headless Chromium, with arguments; its standard output."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium here; install it to look at the page: apt-get install chromium")

    def run(page, *words):
        folder = tmp_path_factory.mktemp("chromium")  # a profile that remembers nothing
        base = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={folder}",
        ]
        command = [found, *base, "--virtual-time-budget=3000", *words, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_page_works_in_a_browser(directory, browse, tmp_path):
    page = tmp_path / "page.html"
    without_policy = re.sub("<meta http-equiv.*", "", (directory / "report.html").read_text())
    page.write_text(without_policy.replace("</body>", f"{DRIVER}</body>"))
    dom = browse(page, "--window-size=1200,900", "--blink-settings=preferredColorScheme=1", "--dump-dom")
    assert 'data-ready="yes"' in dom and "data-error" not in dom and "<title>study · report</title>" in dom
    content, answers = (embedded(directory)[key] for key in ("report", "answers"))
    assert content["words"]["headline"] in dom
    said = json.loads(re.search(r'data-said="(.*?)"', dom)[1].replace("&quot;", '"').replace("&lt;", "<"))
    assert set(said["figures"]) == set(content["figures"])
    shown = (plots.panels(figure, list(content["conditions"])) for figure in content["figures"].values())
    assert said["panels"] == sum(map(len, shown))
    a, b = ([bool(answer[2]) for answer in block["answers"]] for block in answers["blocks"][:2])
    counts = {"all": 12}
    for name, who in (
        ("only baseline", (1, 0)),
        ("only mul_tokens", (0, 1)),
        ("both", (1, 1)),
        ("neither", (0, 0)),
    ):
        counts[name] = list(zip(a, b)).count(who)
    assert said["chips"] == [f"{name} · {count}" for name, count in counts.items()]
    assert said["searching"] == "search" and said["filtered"][0] == "a" and said["walked"] == "SUMMARY"
    with_facts = sum(
        any(not isinstance(piece, str) for piece in answer[0]) for answer in answers["blocks"][1]["answers"]
    )
    assert said["found"] == f"all · {with_facts}"
    assert said["theme"] == "dark" and said["numbers"] and not said["wide"]


def test_the_page_runs_no_script_but_its_own(directory, browse, tmp_path):
    page, inserted = tmp_path / "page.html", '<script>document.title = "broken"</script>'
    page.write_text((directory / "report.html").read_text().replace("</main>", f"{inserted}</main>"))
    dom = browse(page, "--dump-dom")
    assert 'data-ready="yes"' in dom and "<title>study · report</title>" in dom


@pytest.mark.parametrize("scheme, dark", [(0, True), (1, False)])
def test_the_page_is_drawn_dark_and_light_on_a_narrow_screen(directory, browse, tmp_path, scheme, dark):
    shot = tmp_path / "shot.png"
    words = [
        f"--blink-settings=preferredColorScheme={scheme}",
        "--window-size=500,1400",
        "--hide-scrollbars",
        f"--screenshot={shot}",
    ]
    browse(directory / "report.html", *words)
    image = Image.open(shot).convert("L")
    assert (image.getpixel((4, 700)) < 60) is dark  # the paper
    assert len(set(image.resize((100, 280)).get_flattened_data())) > 40  # not blank
