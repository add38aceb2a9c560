#!/usr/bin/env bash
# Makes everything in this folder; some 50 minutes on two busy cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
.venv/bin/wtl run ml10
cp runs/ml10/evaluation/episodes.csv runs/ml10/evaluation/families.json runs/ml10/improvement.png experiments/ml10/

.venv/bin/wtl report runs/ml10 --markdown

# The same without made-up families.
.venv/bin/wtl run ml10 tasks.sketches=0 trials.first_round_tasks=null "evaluation.baselines=[]" directory=runs/ml10-without
cp runs/ml10-without/evaluation/episodes.csv experiments/ml10/without.csv
