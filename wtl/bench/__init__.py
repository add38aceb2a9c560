"""Benchmarks: how fast this machine steps, collects, trains and acts, as numbers of one run and their ratios.

Absolute numbers are worth what the machine was doing meanwhile, so what is compared takes turns within a run
and counts with its best turn. `wtl.bench.sections` puts the sections together.
"""
