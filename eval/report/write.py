"""Write a comparison down, for people and for papers.

    bash scripts/compare.sh experiments/quickstart.yaml     # writes runs/quickstart/report/

    report.html     one file that needs no network: words, figures, runs and real answers
    report.json     every figure that is shown
    report.md       a summary to paste
    outcomes.parquet    whether every model got every problem right, and what the reference answer cost it in bits
    figures/        each figure as SVG and CSV, and the main table as LaTeX; PDF: python -m eval.report.pdf

Everything is made aside and then put in its place, so that an error leaves an earlier report as it was.
"""

import csv
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

from eval.report import render, svg, tables, words
from eval.verdict.results import Study
from pipeline.errors import UserError
from pipeline.files import write_json

OUTCOME = pa.schema({"experiment": pa.string(), "condition": pa.string(), "seed": pa.int64(), "stage": pa.string(),
                     "set": pa.string(), "id": pa.string(), "correct": pa.bool_(),
                     "gold_bits": pa.float32(), "gold_bytes": pa.float32()})  # fmt: skip
FILES = ("report.html", "report.json", "report.md", "outcomes.parquet")


def outcomes(studies: list[Study]) -> Iterator[pa.Table]:
    """A row for every problem that a model was asked, by arm: right or wrong, and the bits of its reference answer."""
    known: dict[int, pa.Array] = {}  # arms share their arrays of ids
    for study, arm in ((each, arm) for each in studies for arm in each.arms):
        parts = []
        for name, set_name, items in ((n, s, i) for n, sets in arm.items.items() for s, i in sets.items()):
            own = (study.experiment.name, arm.condition, arm.seed, name, set_name)
            columns = [pa.repeat(value, len(items.ids)) for value in own]
            ids = known.setdefault(id(items.ids), pa.array(items.ids, pa.string()))
            bits = [pa.array(values, from_pandas=True) for values in (items.gold_bits, items.gold_bytes)]
            parts.append(pa.table([*columns, ids, items.correct, *bits], OUTCOME))
        yield pa.concat_tables([OUTCOME.empty_table(), *parts])


def write(content: dict, answers: dict, outcomes: Iterable[pa.Table], directory: Path) -> Path:
    """Write the report; the path of its page."""
    _check_place(directory)
    try:
        with _aside(directory) as aside:
            write_json(aside / "report.json", content)
            (aside / "report.md").write_text(words.markdown(content), encoding="utf-8")
            (aside / "report.html").write_text(render.page(content, answers), encoding="utf-8")
            with parquet.ParquetWriter(aside / "outcomes.parquet", OUTCOME, compression="zstd") as file:
                for part in outcomes:
                    file.write_table(part)
            caption = f"{content['title']}: accuracy after every stage, 95% intervals"
            (aside / "figures/table.tex").write_text(
                tables.latex(tables.rows(content), caption), encoding="utf-8"
            )
            for figure in content["figures"].values():
                svg.save(figure, list(content["conditions"]), aside / f"figures/{figure['id']}.svg")
                write_csv(figure, aside / f"figures/{figure['id']}.csv")
            directory.mkdir(exist_ok=True)
            shutil.rmtree(directory / "figures", ignore_errors=True)
            for path in aside.iterdir():
                path.rename(directory / path.name)
    except OSError as error:
        raise UserError(f"{directory}: the report cannot be written: {error.strerror}") from None
    return directory / "report.html"


@contextmanager
def _aside(directory: Path) -> Iterator[Path]:
    """A folder beside the report's, for one comparison at a time, so that those of killed ones can be removed."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(directory.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in directory.parent.glob(f".{directory.name}.*"):
            shutil.rmtree(left, ignore_errors=True)
        aside = directory.with_name(f".{directory.name}.new")
        (aside / "figures").mkdir(parents=True)
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    finally:
        os.close(lock)


def write_csv(figure: dict, path: Path) -> None:
    """A figure's table; a text that a spreadsheet would take for a formula gets an apostrophe before it."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = [[_harmless(cell) for cell in row] for row in figure["rows"]]
        csv.writer(file).writerows([figure["columns"], *rows])


def _harmless(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _check_place(directory: Path) -> None:
    """Raises UserError where something else stands in the place of the report or of one of its parts."""
    odd = [path for path in (directory, directory / "figures") if path.exists() and not path.is_dir()]
    odd += [directory / name for name in FILES if (directory / name).is_dir()]
    if odd:
        raise UserError(f"{odd[0]}: is in the way of the report; remove it")
