"""How the house is written: what can be checked by reading the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("wtl/**/*.py"), *ROOT.glob("tasks/**/*.py")])
MOST_PARAMETERS = 8


def definitions() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield path, node


def where(path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> str:
    return f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"


def test_public_functions_have_few_parameters() -> None:
    long = []
    for path, node in definitions():
        if isinstance(node, ast.ClassDef) or (node.name.startswith("_") and node.name != "__init__"):
            continue
        names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        if len([name for name in names if name not in ("self", "cls")]) > MOST_PARAMETERS:
            long.append(where(path, node))
    assert not long


def test_every_field_of_a_configuration_is_explained() -> None:
    bare = []
    for path, node in definitions():
        if isinstance(node, ast.ClassDef) and (node.name.endswith("Config") or node.name.endswith("Settings")):
            for field, after in zip(node.body, [*node.body[1:], None], strict=True):
                explained = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                if isinstance(field, ast.AnnAssign) and not explained:
                    bare.append(f"{where(path, node)}.{ast.unparse(field.target)}")
    assert not bare


def test_docstrings_open_with_a_sentence() -> None:
    """No sentence opens with "Of"; a docstring's first line is not a shape with an arrow."""
    bad = []
    for path, node in definitions():
        text = ast.get_docstring(node) or ""
        first = text.split("\n\n")[0]
        if first.startswith("Of ") or ". Of " in first or " -> (" in first.split(".")[0]:
            bad.append(where(path, node))
    assert not bad
