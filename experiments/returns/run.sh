#!/usr/bin/env bash
# Makes everything in this folder; a command that was stopped goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
.venv/bin/wtl run returns
.venv/bin/python experiments/returns/figure.py gather runs/returns
.venv/bin/python experiments/returns/figure.py draw
