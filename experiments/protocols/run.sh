#!/usr/bin/env bash
# Makes everything in this folder: the shipped checkpoint on ML45's held-out families under several protocols.
# Some minutes each on two cores; nothing is trained.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
here=experiments/protocols
evaluate() {
    name=$1
    shift
    .venv/bin/wtl evaluate pretrained "evaluation.variants=[told_goal, blind_search]" \
        "evaluation.methods=[transfer_told_goal, expert]" "directory=runs/protocols/$name" "$@"
    cp "runs/protocols/$name/evaluation/episodes.csv" "$here/$name.csv"
    cp "runs/protocols/$name/evaluation/families.json" "$here/families.json"
}
evaluate redrawn tasks.test_goals_per_family=50 "evaluation.controls=[blind_retry, shuffled_trial, masked_reward]"
evaluate redrawn-one-walk tasks.test_goals_per_family=20 protocol.walks=one
evaluate repeated tasks.test_goals_per_family=20 protocol.starts=repeated
evaluate redrawn-noise tasks.test_goals_per_family=20 protocol.action_noise=0.1 protocol.position_noise=0.005
.venv/bin/wtl report runs/protocols/redrawn runs/protocols/redrawn-one-walk runs/protocols/repeated \
    runs/protocols/redrawn-noise --markdown
