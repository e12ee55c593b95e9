#!/usr/bin/env bash
# One run as one SLURM job: Ray is started on all nodes of the job, the run goes on where an
# earlier job left it, and the job puts itself back into the queue when its time is over.
# Lines marked "CHANGE name" are yours to set; README.md lists them all.
#
#   sbatch clusters/slurm.sh examples/cartpole_cem.toml /shared/runs/cartpole [FLAG...]
#   tail -F distes-JOB.log
#   scancel JOB                    # saves and stops; the same sbatch goes on
#
#SBATCH --job-name=distes
#SBATCH --output=%x-%j.log
# CHANGE nodes
#SBATCH --nodes=4
# CHANGE cpus-per-task: the cores of a node
#SBATCH --cpus-per-task=32
# CHANGE time: a slice of the run; when it is over, the job queues again
#SBATCH --time=12:00:00
# One task a node: a task is a node of Ray.
#SBATCH --ntasks-per-node=1
# Whole nodes. `ray symmetric-run` refuses a node on which a Ray runs, whoever's it is, and ends
# all of yours there when it is done: jobs must not share nodes. They may share everything
# else, so each has ports and a temporary directory of its own.
#SBATCH --exclusive
#SBATCH --mem=0
# Five minutes before the end this script (B:) is told, and has the run saved.
#SBATCH --signal=B:USR1@300
# Allows queueing again: by this script, by a preemption, after the loss of the first node.
#SBATCH --requeue
# The loss of another node costs its workers' chunks, not the job.
#SBATCH --no-kill
# Later slices add to the same log.
#SBATCH --open-mode=append
set -euo pipefail

say() { printf 'slurm.sh: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

if [[ $# -lt 2 ]]; then
  say "usage: sbatch clusters/slurm.sh CONFIG.toml RUN [FLAG of distes run...]"
  exit 2
fi
[[ -n ${SLURM_JOB_ID:-} ]] || die "not inside a SLURM job: start it with sbatch"
config=$1 run=$2
shift 2
# The job's working directory may go; and only storage that later jobs see as well is of use.
[[ $run == /* || $run == *://* ]] || die "RUN must be an absolute path or a URI, not '$run'"

# CHANGE DISTES_ENV: where distes is installed; every node must see it
export PATH="${DISTES_ENV:-$HOME/distes}/bin:$PATH"
for program in ray distes; do
  command -v "$program" >/dev/null || die "no '$program' on PATH: set DISTES_ENV"
done

# --- Settings that all nodes share -------------------------------------------------------

# The network of a SLURM cluster has other users in it: every call shows the token. It is made
# once, in the home directory that all nodes see. (Elsewhere: RAY_AUTH_TOKEN_PATH.)
export RAY_AUTH_MODE=token
(umask 077 && ray get-auth-token --generate >/dev/null) || die "no token for Ray"

# The script runs on the job's first node, which is the head. Its address as the other nodes
# see it: some systems give a machine's own name the address 127.0.1.1.
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
[[ ${#nodes[@]} -gt 0 ]] || die "scontrol names no node of this job"
outward() { awk '!/^127\./ && !found { print $1; found = 1 }'; }
ip=$(getent ahostsv4 "${nodes[0]}" | outward) || true
[[ -n $ip ]] || ip=$(hostname -I | tr ' ' '\n' | outward)
[[ -n $ip ]] || die "no address found for ${nodes[0]}"

# Ports by job: below the ports that the system hands out, above those of Ray's workers. An
# earlier job's Ray that is just ending is never joined by mistake.
port=$((20000 + SLURM_JOB_ID % 5000 * 2))
export HEAD="$ip:$port" DASHBOARD_PORT=$((port + 1))

# Short, because paths of sockets may have 107 bytes; by job, because /tmp/ray may be another
# user's.
export RAY_TMPDIR="/tmp/distes-$SLURM_JOB_ID"

# Nodes start together within seconds or, with a slow file system, minutes (30 s by default).
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300

# How long a node waits for a head that is gone: the others learn by it that the run is over
# (and log a failure of Ray as their last words). A minute by default, which all nodes would
# idle.
export RAY_gcs_rpc_server_reconnect_timeout_s=15

# What the driver leaves for this script, on the node they share.
STATE=$(mktemp -d)
export STATE
trap 'rm -rf "$STATE"' EXIT

# --- What runs on the nodes --------------------------------------------------------------

# On each node. Ray's log stays if something went wrong.
# shellcheck disable=SC2317,SC2329  # called through srun
on_node() {
  mkdir -p "$RAY_TMPDIR" && chmod 700 "$RAY_TMPDIR" || return 1
  local cpus=$SLURM_CPUS_PER_TASK code=0
  # scancel signals every process of the task. The task must outlive the driver, which saves:
  # SLURM kills what is left of a task that has ended.
  trap : TERM INT
  # The head keeps a core for the driver.
  if [[ $SLURM_PROCID == 0 && $cpus -gt 1 ]]; then cpus=$((cpus - 1)); fi
  ray symmetric-run --address "$HEAD" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus="$cpus" --object-store-memory=2000000000 --dashboard-port="$DASHBOARD_PORT" \
    -- bash -c "$(declare -f driver); driver \"\$@\"" driver "$@" || code=$?
  settled
  [[ $code -ne 0 ]] || rm -rf "$RAY_TMPDIR"
  return "$code"
}

# On the head, once Ray is up. `ray symmetric-run` exits 0 when Ray itself did not start: that
# the run was run at all is known by the file.
# shellcheck disable=SC2317,SC2329  # called by on_node
driver() {
  distes run "$@" &
  local pid=$! code
  echo "$pid $$" >"$STATE/pid"
  # Signals to all reach the driver as well: wait for what it makes of them.
  trap : TERM INT
  while :; do
    code=0
    wait "$pid" || code=$?
    kill -0 "$pid" 2>/dev/null || break
  done
  echo "$code" >"$STATE/exit_code"
  return "$code"
}

# Waits for a driver, if there is one here, until its exit code is written.
settled() {
  local shell=
  [[ ! -r $STATE/pid ]] || read -r _ shell <"$STATE/pid"
  while [[ -n $shell && ! -e $STATE/exit_code ]] && kill -0 "$shell" 2>/dev/null; do sleep 1; done
}

# --- The run -----------------------------------------------------------------------------

# The end of the time is near: SIGTERM has the driver record what is finished and save.
out_of_time=
# shellcheck disable=SC2329  # called by a trap
stop() {
  out_of_time=yes
  say "time is almost over: saving"
  local driver=$srun  # still starting Ray
  [[ ! -r $STATE/pid ]] || read -r driver _ <"$STATE/pid"
  kill -TERM "$driver" || true
}

say "head ${nodes[0]} ($HEAD), ${#nodes[@]} nodes, run $run"
say "dashboard: ssh -N -L 8265:localhost:$DASHBOARD_PORT ${nodes[0]}"

# --wait=0, --kill-on-bad-exit=0, --no-kill: a task that ends early is a lost node, and the
# others go on. In the background, since a trap waits for a foreground command.
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
  --wait=0 --kill-on-bad-exit=0 --no-kill \
  bash -c "$(declare -f on_node driver settled); on_node \"\$@\"" on_node \
  "$config" --out "$run" --address "$HEAD" --workers auto --resume-if-exists "$@" &
srun=$!
trap stop USR1
trap 'say "cancelled: saving"' TERM
while :; do
  srun_code=0
  wait "$srun" || srun_code=$?
  kill -0 "$srun" 2>/dev/null || break
done
settled

if [[ -r $STATE/exit_code ]]; then
  code=$(<"$STATE/exit_code")
elif [[ -n $out_of_time ]]; then
  code=143
else
  die "distes did not run to an end: Ray did not start, or its head was lost (srun exited" \
    "$srun_code). The cause is above, or on the nodes in $RAY_TMPDIR"
fi

if [[ $code -eq 143 && -n $out_of_time ]]; then
  scontrol requeue "$SLURM_JOB_ID" && exit 0
  say "this job cannot be queued again; the same sbatch command goes on with the run"
fi
exit "$code"
