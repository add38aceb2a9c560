#!/usr/bin/env bash
# Makes everything in this folder; about forty minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
.venv/bin/wtl run ml10
cp runs/ml10/evaluation/episodes.csv runs/ml10/evaluation/families.json runs/ml10/improvement.png experiments/ml10/

# Two more training seeds, on the same entries. Demonstrations have no noise, so they are the same for all seeds.
for seed in 1 2; do
    .venv/bin/wtl run ml10 "seed=$seed" own_demonstrations=runs/ml10/demos "evaluation.baselines=[]" "directory=runs/ml10-$seed"
    cp "runs/ml10-$seed/evaluation/episodes.csv" "experiments/ml10/seed$seed.csv"
done
.venv/bin/wtl report runs/ml10 runs/ml10-1 runs/ml10-2 --markdown
