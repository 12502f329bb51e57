#!/usr/bin/env bash
# Evaluate a checkpoint on an ImageNet-style folder (val/ or val.tar), and what further flags of main.py ask for:
#   ./eval.sh MODEL CHECKPOINT DATA [flags]
#   ./eval.sh lsnet_t lsnet_t.pth imagenet --deploy
#   ./eval.sh lsnet_t hf_hub:jameslahm/lsnet_t imagenet --inc-path imagenet-c --ina-path imagenet-a
# PYTHON names another Python than the one on the path.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "eval.sh: found too few arguments; expected MODEL CHECKPOINT DATA [flags]; see the head of this file" >&2
    exit 2
fi
model=$1 checkpoint=$2 data=$3
shift 3
exec "${PYTHON:-python}" "$(dirname "$0")/main.py" --eval --model "$model" --resume "$checkpoint" --data-path "$data" "$@"
