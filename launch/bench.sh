#!/bin/bash
# Measure what the README's benchmarks are about: on 2 ranks, a core each, then on 4 ranks on the same cores for the
# grids 2x2 and 4x1. Writes bench.txt and bench.json into the build directory. Arguments are options of every
# benchmark: bench.sh --repeat 3
set -u
# shellcheck source=launch/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" || exit

build=${EQUISHARD_BUILD:-$ROOT/build}
[ -x "$build/equishard" ] || { say "$build/equishard is missing: run make"; exit 2; }
count_cores
[ "$CORES" -ge 2 ] || say "two ranks share one core: no measure of what the program can do"
export BLIS_NUM_THREADS=1
scratch=$(mktemp -d) || exit
trap 'rm -rf "$scratch"' EXIT
text=$build/bench.txt
options=("$@")
number=0

# What everything was measured on.
describe_machine() {
  date --iso-8601=seconds
  lscpu | grep -E '^(Model name|CPU\(s\)|Thread\(s\) per core|Socket\(s\)|L2 cache|L3 cache):'
  uname -srm
  "$build/equishard" --version
}

# bench RANKS BENCHMARK OPTION ...
bench() {
  local ranks=$1
  shift
  mpirun_options "$ranks"
  number=$((number + 1))
  say "$ranks ranks: $*"
  {
    echo
    echo "== $ranks ranks: equishard bench $*"
    run_job -x BLIS_NUM_THREADS -np "$ranks" "$build/equishard" bench "$@" \
      --json "$(printf '%s/%03d.json' "$scratch" "$number")" ${options[@]+"${options[@]}"}
  } >>"$text" || exit
}

# One file of all: the machine, and the cases of all runs.
write_json() {
  python3 - "$scratch" "$build/bench.json" <<'PYTHON'
import json, pathlib, sys
scratch, output = map(pathlib.Path, sys.argv[1:])
cases = [case for path in sorted(scratch.glob("*.json")) for case in json.loads(path.read_text())]
output.write_text(json.dumps({"machine": (scratch / "machine.txt").read_text(), "cases": cases}, indent=1) + "\n")
PYTHON
}

describe_machine >"$scratch/machine.txt" || exit
cp "$scratch/machine.txt" "$text" || exit

manifest=$ROOT/tests/manifests/qwen3-0.6b.json
config=$ROOT/configs/qwen3.yaml
bench 2 polar --size 4096x4096 --grid 2x1,1x2
bench 2 polar --size 2048x2048,1024x4096 --grid 2x1,1x2
bench 2 polar --size 1024x1024 --count 32 --grid planned
bench 2 polar --size 128x1024 --count 128 --grid planned
bench 2 rules --rule right_spectral,row_norm --size 151936x1024 --grid 2x1
bench 2 step --manifest "$manifest" --config "$config"
bench 2 step --transport --manifest "$manifest" --config "$config"
bench 2 checkpoint --directory "$build"
bench 4 polar --size 4096x4096 --grid 2x2,4x1
bench 4 polar --size 2048x2048,1024x4096 --grid 2x2,4x1
write_json || exit
cat "$text"
say "written to $text and $build/bench.json"
