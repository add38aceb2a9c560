"""This folder is Meta-World 3.1.1 as task families, and the only place that imports metaworld and mujoco.

`family.py` is the door: a `MetaWorldFamily` is one of the 50 environments. `benchmark.py` puts families together
to ML1, ML10, ML25 and ML45, `official.py` runs Meta-World's own evaluator, and `fast/` steps faster with the same
bits. Trap: metaworld takes a second to import, so nothing is imported here; `splits.py` is plain data.
"""
