#!/usr/bin/env bash
# Makes everything in this folder; seeds may be named: run.sh 0 1 2. It goes on where it was stopped.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
here=experiments/hindsight
.venv/bin/python $here/curves.py runs/hindsight-curves $here/episodes.csv "$@"
.venv/bin/python $here/figure.py $here/episodes.csv $here/hindsight.png
