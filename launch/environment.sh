# shellcheck shell=bash
# What a job needs from the machine; sourced by the scripts that start one. Sets
#   ROOT            the project's directory
#   PYTHON          an interpreter that has torch (given: kept)
#   CORES           processor cores that this process may use
# and, by `mpirun_options RANKS [THREADS]`, the array MPIRUN_OPTIONS.
# Under Slurm, or with a host file in EQUISHARD_HOSTFILE, the slots are theirs.

# shellcheck disable=SC2034 # for the scripts that source this
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { echo "$(basename "$0"): $*" >&2; }

has_torch() {
  "$1" -c 'from importlib.util import find_spec; raise SystemExit(not all(map(find_spec, ("torch", "numpy"))))' 2>/dev/null
}

find_python() {
  local candidate candidates=(python3 /usr/bin/python3)
  [ -n "${PYTHON:-}" ] && candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    candidate=$(command -v "$candidate") || continue
    if has_torch "$candidate"; then
      PYTHON=$candidate
      export PYTHON
      return
    fi
  done
  say "no Python with torch and numpy: tried ${candidates[*]}; install python3-torch, or set PYTHON"
  return 2
}

# Cores, not hardware threads: mpirun counts its slots so.
count_cores() {
  local cpu allowed sibling
  allowed=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status 2>/dev/null | tr ',' '\n' |
    awk -F- '{ for (cpu = $1; cpu <= ($2 == "" ? $1 : $2); cpu++) print cpu }')
  CORES=$(for cpu in $allowed; do
    sibling=/sys/devices/system/cpu/cpu$cpu/topology/thread_siblings_list
    if [ -r "$sibling" ]; then cat "$sibling"; else echo "$cpu"; fi
  done | sort -u | wc -l)
  [ "$CORES" -gt 0 ] || CORES=$(nproc)
}

mpirun_options() {
  local ranks=$1 threads=${2:-1}
  # Processes that compute in several threads of their own, without being told to, fight for the cores.
  export OMP_NUM_THREADS=$threads
  MPIRUN_OPTIONS=(-x OMP_NUM_THREADS)
  [ "$(id -u)" -eq 0 ] && MPIRUN_OPTIONS+=(--allow-run-as-root)
  if [ -n "${EQUISHARD_HOSTFILE:-}" ]; then
    MPIRUN_OPTIONS+=(--hostfile "$EQUISHARD_HOSTFILE")
  elif [ -n "${SLURM_JOB_ID:-}" ]; then
    :
  elif [ $((ranks * threads)) -le "$CORES" ]; then
    MPIRUN_OPTIONS+=(--map-by "slot:PE=$threads" --bind-to core)
  else
    MPIRUN_OPTIONS+=(--oversubscribe --bind-to none)
  fi
}

# Run mpirun with MPIRUN_OPTIONS and the programs given; its exit status. After the first signal to this script the ranks
# have EQUISHARD_GRACE seconds (600) to write a checkpoint and end; they learn of it by SIGUSR1, which mpirun passes on,
# whereas SIGTERM makes it kill them a second later. After another signal, or then, mpirun ends the job: nothing stays
# behind. The status is then 128 and the signal's number, but for a job that failed to stop (2 to 5, as of every program).
run_job() {
  local job status signal=0 watch=
  # In a session of its own: the terminal's Ctrl-C comes to this script alone, and mpirun ends in good order.
  setsid mpirun "${MPIRUN_OPTIONS[@]}" "$@" </dev/null &
  job=$!
  trap 'pass_on 2' INT
  trap 'pass_on 10' USR1
  trap 'pass_on 15' TERM
  trap 'pass_on 15 hangup' HUP
  while true; do
    wait "$job"
    status=$?
    kill -0 "$job" 2>/dev/null || break
  done
  trap - INT USR1 TERM HUP
  [ -n "$watch" ] && kill "$watch" 2>/dev/null
  if [ "$signal" -ne 0 ]; then
    case $status in [2-5]) ;; *) status=$((128 + signal)) ;; esac
  fi
  return "$status"
}

# In run_job: what a signal to the script does. A terminal that is closed sends SIGHUP twice, to all processes of the
# script: it does not count as another signal, and the watch does not notice it.
pass_on() {
  local grace=${EQUISHARD_GRACE:-600} before
  ((before = signal, signal = signal ? signal : $1)) # in one command: a trap may come between two
  if [ "$before" -ne 0 ]; then
    [ "${2:-}" = hangup ] || kill -TERM "$job" 2>/dev/null
    return
  fi
  trap '' HUP
  say "stopping after the step under way (at the latest in $grace s; at once after another signal)"
  kill -USR1 "$job" 2>/dev/null
  # A shell of its own: one that is forked here may take over a signal that this one has not seen to yet.
  # shellcheck disable=SC2016
  bash -c 'trap "" INT USR1; trap "kill \$!; exit" TERM; sleep "$1" & wait $! && kill -TERM "$2"' watch "$grace" "$job" \
    >/dev/null 2>&1 &
  watch=$!
}
