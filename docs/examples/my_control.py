"""A control of one's own: is the newest trial alone worth as much as all of them?"""

from dataclasses import replace

from wtl.stages.controls import Control

CONTROL = Control(
    name="newest_trial",
    question="Does it read all trials? It is shown the newest one alone.",
    change=lambda context, entry, other: replace(context, trials=context.trials[-1:]),
)
