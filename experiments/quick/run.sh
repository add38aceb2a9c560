#!/usr/bin/env bash
# Makes everything in this folder but tensorboard.png (a screenshot of TensorBoard on the same run).
set -euo pipefail
cd "$(dirname "$0")/../.."
make run
cp runs/quick/evaluation/episodes.csv runs/quick/evaluation/families.json runs/quick/improvement.png runs/quick/strip.gif experiments/quick/
.venv/bin/wtl report runs/quick --markdown
