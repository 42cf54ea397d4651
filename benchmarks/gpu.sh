#!/usr/bin/env bash
# Everything that needs a GPU, in one record: correctness of every operator and dtype against float64, finite
# differences, opcheck, every CUDA row of docs/benchmarks.md against its rival, and throughput of nat-tiny.
# Takes under 8 minutes; a section that fails is in the record with its error, and the others go on.
#
#   benchmarks/gpu.sh [-o results/kernels/NAME.json] [ROW...]
#   benchmarks/gpu.sh --rehearse     # the same on the CPU with small problems, to see that the script works
set -euo pipefail
cd "$(dirname "$0")/.."

output=""
words=()
while [ $# -gt 0 ]; do
  case "$1" in
    -o | --output)
      [ $# -gt 1 ] || { echo "gpu.sh: -o needs a file" >&2; exit 2; }
      output=$2
      shift
      ;;
    *) words+=("$1") ;;
  esac
  shift
done
if [ -z "$output" ]; then
  device=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1 | tr -cs 'A-Za-z0-9' '-' || true)
  output="results/kernels/${device:-rehearsal-}$(date +%Y-%m-%d).json"
  case " ${words[*]-} " in *" --rehearse "*) output=$(mktemp --suffix=.json) ;; esac
fi
# Where segzoo is not installed, but all that it needs is.
segzoo=(segzoo)
command -v segzoo > /dev/null || segzoo=(python3 -m segzoo)
status=0
"${segzoo[@]}" kernel bench --device cuda ${words[@]+"${words[@]}"} -o "$output" || status=$?
[ -s "$output" ] && echo "record: $output" >&2
exit "$status"
