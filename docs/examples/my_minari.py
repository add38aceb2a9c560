"""Demonstrations of one's own from a Minari data set, which here names neither tasks nor successes.

wtl run CONFIG demonstrations.own=runs/my-demonstrations
"""

from wtl.data.exchange import ImportSettings, import_episodes

settings = ImportSettings(family="car", split="dealt", solved_reward=90.0)
import_episodes("mine/car-v0", "runs/my-demonstrations", settings)
