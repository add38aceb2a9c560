"""This folder is Meta-World 3.1.1 as task families, and the only place that imports metaworld and mujoco.

`family.py` is the door: a `MetaWorldFamily` is one of the 50 environments. `benchmark.py` puts families together
to ML1, ML10, ML25 and ML45, `official.py` runs Meta-World's own evaluator, and `fast/` steps faster with the same
bits. Traps: metaworld takes a second to import, so nothing of it is imported here (`splits.py` is plain data); and
MuJoCo loads the library that the environment variable MUJOCO_GL names when it is imported, drawing or not.
"""

import os


def _import_mujoco_without_drawing() -> None:
    """Switch drawing off where the library that MUJOCO_GL names is missing: only what draws has to do without."""
    try:
        import mujoco  # noqa: F401
    except Exception:  # ImportError, OSError, RuntimeError or AttributeError, as the missing library will have it
        os.environ["MUJOCO_GL"] = "disable"  # for the import that follows, and for workers


if os.environ.get("MUJOCO_GL"):
    _import_mujoco_without_drawing()
