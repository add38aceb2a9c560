#!/usr/bin/env bash
# Makes everything in this folder and the checkpoint of the package: an hour and a half on two busy cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
here=experiments/learned_transfer
.venv/bin/wtl run $here/forty.yaml
cp runs/learned/evaluation/episodes.csv $here/validation.csv
cp runs/learned/evaluation/families.json $here/validation-families.json
.venv/bin/python $here/scaling.py $here/forty.yaml $here/scaling.csv 5 10 20 40
mkdir -p wtl/pretrained/ml45
cp runs/learned/learned_transfer/scorer-0/checkpoint/* wtl/pretrained/ml45/
# The method on ML45's held-out families under several protocols: experiments/protocols/run.sh
