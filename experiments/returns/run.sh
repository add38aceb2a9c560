#!/usr/bin/env bash
# Makes everything in this folder; a command that was stopped goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
wtl=.venv/bin/wtl
$wtl run returns
# The same demonstrations and graded episodes, for what stands beside it.
beside() {
    directory=runs/returns-$1
    shift
    mkdir -p "$directory"
    [ -d "$directory/demonstrations" ] || cp -r runs/returns/demonstrations "$directory/"
    [ -d "$directory/graded" ] || cp -r runs/returns/graded "$directory/"
    $wtl run returns "directory=$directory" "evaluation.methods=[]" "$@"
}
beside past-actions "methods.decision_transformer={past_actions: seen, window_steps: 10, train: {steps: 2500}}"
beside cloning method=graded_cloning methods.graded_cloning.acting=sampled
beside best-tenth method=best_tenth_cloning methods.best_tenth_cloning.acting=sampled
mkdir -p runs/returns-operator
[ -d runs/returns-operator/demonstrations ] || cp -r runs/returns/demonstrations runs/returns-operator/
$wtl evaluate returns directory=runs/returns-operator checkpoint=ml45 "evaluation.methods=[]" "evaluation.asked=[]" \
    evaluation.attempts=2 "evaluation.controls=[blind_retry]" evaluation.control_attempt=2
.venv/bin/python experiments/returns/figure.py gather runs/returns "past actions=runs/returns-past-actions" \
    "sampled=runs/returns-cloning" "sampled=runs/returns-best-tenth" "operator=runs/returns-operator"
.venv/bin/python experiments/returns/figure.py draw
