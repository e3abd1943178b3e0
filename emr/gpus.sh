#!/usr/bin/env bash
# The GPUs of this node, or of this container, as Spark's discovery script prints them (spark.executor.resource.gpu.
# discoveryScript): {"name": "gpu", "addresses": ["0","1"]}. No GPU, or no driver, is an error that the executor's log shows.
set -euo pipefail

indices="$(nvidia-smi --query-gpu=index --format=csv,noheader,nounits)"
addresses=""
while read -r index; do
  [ -n "$index" ] || continue
  [[ "$index" =~ ^[0-9]+$ ]] || { echo "gpus.sh: nvidia-smi said: $index" >&2; exit 1; }
  addresses="$addresses${addresses:+,}\"$index\""
done <<<"$indices"
[ -n "$addresses" ] || { echo "gpus.sh: no GPU on $(hostname)" >&2; exit 1; }
printf '{"name": "gpu", "addresses": [%s]}\n' "$addresses"
