#!/bin/bash
# Train the example model: one MPI job of trainers and owners. `pretrain.sh --help` lists the options.
set -u
# shellcheck source=launch/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" || exit

find_python || exit
count_cores
for argument in "$@"; do
  case $argument in -h | --help) exec "$PYTHON" "$ROOT/launch/pretrain.py" --prepare --help ;; esac
done
build=${EQUISHARD_BUILD:-$ROOT/build}
[ -x "$build/equishard" ] || { say "$build/equishard is missing: run make"; exit 2; }

prepared=$("$PYTHON" "$ROOT/launch/pretrain.py" --prepare --cores "$CORES" "$@") || exit
{ read -r run && read -r trainers && read -r owners && read -r threads; } <<<"$prepared"

mpirun_options $((trainers + owners)) "$threads"
export EQUISHARD_LIBRARY=${EQUISHARD_LIBRARY:-$build/libequishard.so}
# Keeping the memory of large tensors saves a tenth of the trainers' time over returning it to the system.
export MALLOC_MMAP_THRESHOLD_=${MALLOC_MMAP_THRESHOLD_:-1073741824} MALLOC_TRIM_THRESHOLD_=${MALLOC_TRIM_THRESHOLD_:-1073741824}
trainer=("$PYTHON" "$ROOT/launch/pretrain.py" "$run")
[ -t 2 ] && trainer+=(--terminal)
programs=(-np "$trainers" "${trainer[@]}")
[ "$owners" -gt 0 ] && programs+=(: -np "$owners" "$build/equishard" serve)
say "$trainers trainers, $owners owners, $CORES cores, $PYTHON; results in $run/"

run_job "${programs[@]}"
status=$?
resume="launch/pretrain.sh --resume --name $(basename "$run")"
[ "$(dirname "$run")" = "$ROOT/runs" ] || resume+=" --runs $(dirname "$run")"
case $status in
0) ;;
130 | 138 | 143) say "interrupted; continue with: $resume" ;;
*)
  if [ "$status" -gt 128 ]; then
    say "a rank was lost (signal $((status - 128))); continue with: $resume"
    status=5
  fi
  ;;
esac
exit "$status"
