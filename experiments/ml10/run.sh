#!/usr/bin/env bash
# Makes everything in this folder; half an hour on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
.venv/bin/wtl run ml10
cp runs/ml10/evaluation/episodes.csv runs/ml10/evaluation/families.json runs/ml10/improvement.png experiments/ml10/
.venv/bin/wtl report runs/ml10 --markdown
