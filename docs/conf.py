"""How Sphinx builds these pages: `make docs` writes HTML into `docs/_build` and fails at the first warning.

The pages of the API are written here, one a folder, from the modules that there are, so none can be forgotten.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.napoleon.docstring import GoogleDocstring

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

project = "wtl"
author = "the wtl authors"
copyright = "2026, the wtl authors"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "results"]  # results are included by results.md
html_theme = "furo"
html_title = "wtl"
html_static_path: list[str] = []

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Docstrings are plain text with code in single backticks.
default_role = "code"
autoclass_content = "both"
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_default_options = {
    "members": True,
    "undoc-members": True,
    "ignore-module-all": True,  # a name is documented where it is defined, and nowhere else
    "no-value": True,
}

nitpicky = True
# Types of other packages: their pages are on the network, and the build is offline.
nitpick_ignore_regex = [
    (r"py:.*", r"(numpy|np|torch|gymnasium|pandas|pd|rich|typer|yaml|mujoco|metaworld|PIL|ray)\..*"),
    (r"py:.*", r"(collections|pathlib|typing|types|contextlib|concurrent|functools|multiprocessing)\..*"),
    (
        r"py:class",
        r"(Tensor|Tree|NUMBER|subprocess\.Popen|nn\.Module|Path|XYZ|RenderMode|SummaryWriter|(tuple|dict|Annotated|Literal)\[.*)",
    ),
    (
        r"py:class",
        r"(Share|Layers|Command)",
    ),  # as Sphinx cuts some annotations
    (r"py:class", r"wtl\..*\.(Answer|Item|Result|Unit|_Unit)"),  # type variables, and what is private
]


def folders() -> dict[str, list[str]]:
    """Return the modules of each folder of the package, by the folder's name."""
    found: dict[str, list[str]] = {}
    for path in sorted([*ROOT.glob("wtl/**/*.py"), *ROOT.glob("tasks/**/*.py")]):
        if path.name == "__main__.py":
            continue
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts if parts[0] == "wtl" else ("wtl", *parts)  # as they are imported
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        is_folder = len(parts) > 1 and (ROOT / parts[0] / parts[1]).is_dir()
        folder = ".".join(parts[:2]) if is_folder else parts[0]
        found.setdefault(folder, []).append(".".join(parts))
    return found


def write_api_pages(directory: Path) -> None:
    """Write one page a folder, each with all modules of the folder; a page that would not change is left alone."""
    directory.mkdir(exist_ok=True)
    for folder, modules in folders().items():
        lines = [folder, "=" * len(folder), ""]
        for module in modules:
            if module != folder:
                lines += [module, "-" * len(module), ""]
            lines += [f".. automodule:: {module}", ""]
        path, text = directory / f"{folder}.rst", "\n".join(lines)
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)


def read_sections(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Turn `Args:`, `Returns:` and `Raises:` into fields.

    The extension napoleon would do the same to the docstring of a field, and take what stands before its first colon
    for a type; so it is called here, for everything but fields.
    """
    if what not in ("attribute", "data", "property"):
        lines[:] = GoogleDocstring(lines, what=what, name=name, obj=obj, options=options).lines()


def setup(app: Sphinx) -> None:
    """Connect the above with Sphinx."""
    write_api_pages(HERE / "api")
    app.connect("autodoc-process-docstring", read_sections)
