"""Makes the tables of `docs/results/` and the table of the README from the committed CSV files of `experiments/`.

    python -m docs.make_results           # write them
    python -m docs.make_results --check   # exit code 1 if one of them is not what the CSV files say

The tables are those of `wtl report RUN... --markdown`; a page shows some of them.
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from wtl.analysis.episodes import by_attempt, curves, protocol_of
from wtl.analysis.report import report_tables
from wtl.analysis.runs import RunResults, load_runs
from wtl.analysis.tables import Table, to_markdown
from wtl.tasks.metaworld.splits import ALL_FAMILIES, HIDDEN_GOAL

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
EXPERIMENTS = ROOT / "experiments"
BEGIN, END = "<!-- results: made by docs/make_results.py -->\n\n", "\n<!-- end of results -->\n"
PROTOCOLS_BEGIN = "<!-- protocols: made by docs/make_results.py -->\n"
PROTOCOLS_END = "<!-- end of protocols -->\n"

PROTOCOLS = ("redrawn", "redrawn-one-walk", "repeated", "redrawn-noise")

PAGES: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    # page: the runs by their names, and which tables: those whose titles hold one of these words
    "quick": ({"quick": "quick/episodes.csv"}, ("",)),
    "ml45": ({"ml45": "ml45/episodes.csv"}, ("",)),
    "ml45-seeds": (
        {"ml45": "ml45/episodes.csv", "ml45-1": "ml45/seed1.csv", "ml45-2": "ml45/seed2.csv"},
        ("runs compared", "by family"),
    ),
    "ml45-elsewhere": (
        {
            "ten trials": "ml45/ten.csv",
            "training families": "ml45/training-families.csv",
            "regime goal": "ml45/goal.csv",
            "noisy demonstrations": "ml45/noisy.csv",
        },
        ("runs compared",),
    ),
    "ml10": ({"ml10": "ml10/episodes.csv"}, ("",)),
    "ml10-seeds": (
        {"ml10": "ml10/episodes.csv", "ml10-1": "ml10/seed1.csv", "ml10-2": "ml10/seed2.csv"},
        ("runs compared", "by family"),
    ),
    "ml10-procedural": (
        {
            "ML10 test, with": "ml10/episodes.csv",
            "ML10 test, without": "ml10/without.csv",
            "30 other families, with": "ml10/others.csv",
            "30 other families, without": "ml10/others-without.csv",
        },
        ("runs compared", "with, family-test minus ML10 test, without"),
    ),
    "protocols": (
        {name: f"protocols/{name}.csv" for name in PROTOCOLS},
        ("success in %", "by family", "same entries"),
    ),
    "ml1-push": ({f"push-{seed}": f"ml1/push-{seed}.csv" for seed in range(3)}, ("push-0", "runs compared")),
    "ml1-pick-place": (
        {f"pick-place-{seed}": f"ml1/pick-place-{seed}.csv" for seed in range(3)},
        ("pick-place-0", "runs compared"),
    ),
}


def load(files: Mapping[str, str]) -> dict[str, RunResults]:
    """Return the evaluations of these files of `experiments/`, by the names that the tables give them."""
    families = {name: {"hidden_goal": name in HIDDEN_GOAL} for name in ALL_FAMILIES}
    with tempfile.TemporaryDirectory() as folder:
        for name, file in files.items():
            run = Path(folder) / name
            run.mkdir()
            shutil.copy(EXPERIMENTS / file, run / "episodes.csv")
            (run / "families.json").write_text(json.dumps(families))
        return load_runs(Path(folder) / name for name in files)


def page(name: str) -> str:
    """Return the tables of a page."""
    files, words = PAGES[name]
    tables = [table for table in report_tables(load(files)) if any(word in table.title for word in words)]
    return "\n".join(to_markdown(table) for table in tables)


def scaling() -> str:
    """Return success against training families and parameters, one row a size."""
    rows = list(csv.DictReader((EXPERIMENTS / "scaling" / "scaling.csv").open()))
    attempts = sorted({int(row["attempt"]) for row in rows})
    lines = []
    for families, parameters in sorted({(int(row["families"]), int(row["parameters"])) for row in rows}):
        own = [row for row in rows if (int(row["families"]), int(row["parameters"])) == (families, parameters)]
        cells = []
        for attempt in attempts:
            points = [row for row in own if int(row["attempt"]) == attempt]
            rates = [100 * int(row["successes"]) / int(row["n"]) for row in points]
            low, high = (100 * float(points[0][end]) for end in ("low", "high"))
            mean = sum(rates) / len(rates)
            several = f"{mean:.0f} ({min(rates):.0f} to {max(rates):.0f})"
            cells.append(several if len(rates) > 1 else f"{mean:.0f} [{low:.0f}, {high:.0f}]")
        lines.append((str(families), f"{parameters:,}", str(len({row["seed"] for row in own})), *cells))
    header = ("training families", "parameters", "seeds", *(f"attempt {attempt}" for attempt in attempts))
    return to_markdown(Table("ML45, five test families: success in %", header, (tuple(lines),)))


def headline() -> str:
    """Return the table of the README: success at attempts 0, 1 and 3 on ML45 and ML10, with two of the controls."""
    lines: dict[tuple[str, str], list[str]] = {}
    header = ["method, ↳ control at attempt 3"]
    for name, run in load({"ML45": "ml45/episodes.csv", "ML10": "ml10/episodes.csv"}).items():
        header += [f"{name}, attempt 0", "attempt 1", "attempt 3"]
        for key, curve in curves(run.rows).items():
            if key[1] in ("", "blind_retry", "shuffled_trial"):
                rates = {k: f"{100 * rows['success'].mean():.0f}" for k, rows in by_attempt(curve).items()}
                lines.setdefault(key, []).extend(rates.get(k, "") for k in (0, 1, 3))
    names = {(method, control): f"↳ `{control}`" if control else f"`{method}`" for method, control in lines}
    rows = tuple((names[key], *cells) for key, cells in lines.items())
    return to_markdown(Table("", tuple(header), (rows,))).removeprefix("****\n\n")


def by_protocol() -> str:
    """Return the README's table of protocols: the shipped method by attempt, beside control, luck and the expert."""
    mine = "learned_transfer"
    names = (mine, f"{mine}.told_goal", "transfer_told_goal", f"{mine}.blind_search", "expert")
    lines = []
    for run in load({name: f"protocols/{name}.csv" for name in PROTOCOLS}).values():
        found = {key[0]: by_attempt(rows) for key, rows in curves(run.rows).items() if not key[1]}
        cells = [f"{100 * rows['success'].mean():.0f}" for name in names for rows in found[name].values()]
        entries = str(len(found[mine][0]))
        lines.append((protocol_of(run.rows).replace(", feedback at the end", ""), entries, *cells))
    told = ("told the goal", "told, controller by hand", "blind search", "expert")
    header = ("protocol", "n", *(f"attempt {k}" for k in range(4)), *told)
    return to_markdown(Table("", header, (tuple(lines),))).removeprefix("****\n\n")


def made() -> dict[Path, str]:
    """Return what each file has to hold."""
    files = {RESULTS / f"{name}.md": page(name) for name in PAGES}
    files[RESULTS / "scaling.md"] = scaling()
    readme = _filled((ROOT / "README.md").read_text(), BEGIN, headline(), END)
    files[ROOT / "README.md"] = _filled(readme, PROTOCOLS_BEGIN, f"\n{by_protocol()}\n", PROTOCOLS_END)
    return files


def _filled(text: str, begin: str, content: str, end: str) -> str:
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        sys.exit(f"README.md must hold the lines {begin.strip()} and {end.strip()}, each with an empty line beside it")
    return before + begin + content + end + after


def main() -> None:
    """Write the files, or compare them."""
    files = made()
    if "--check" in sys.argv[1:]:
        stale = [path for path, text in files.items() if not path.is_file() or path.read_text() != text]
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        sys.exit(f"{names}: not what the CSV files say; run python -m docs.make_results" if stale else 0)
    for path, text in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
