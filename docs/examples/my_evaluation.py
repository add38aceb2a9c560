"""A policy of one's own, with controls and curve: the lines below are all that it takes."""

from my_policy import BestTrial

import wtl

if __name__ == "__main__":  # worker processes would import this file
    controls = "evaluation.controls=[blind_retry,shuffled_trial,masked_reward]"
    results = wtl.evaluate(BestTrial(), "toy", [controls], name="best_trial", directory="runs/best")
    wtl.draw_curves({"toy": results}, "runs/best/improvement.png")
    print(wtl.report({"toy": results}))
