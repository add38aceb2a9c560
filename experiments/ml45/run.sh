#!/usr/bin/env bash
# Makes everything in this folder and the checkpoint of the package; three quarters of an hour on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
.venv/bin/wtl run ml45
cp runs/ml45/evaluation/episodes.csv runs/ml45/evaluation/families.json runs/ml45/improvement.png experiments/ml45/
mkdir -p wtl/pretrained/ml45
cp runs/ml45/retrial-1/policy/* wtl/pretrained/ml45/
.venv/bin/wtl report runs/ml45 --markdown
.venv/bin/wtl evaluate pretrained tasks.test_goals_per_family=50 evaluation.attempts=10 "evaluation.baselines=[]" directory=runs/ml45-ten
cp runs/ml45-ten/evaluation/episodes.csv experiments/ml45/attempts10.csv
