#!/usr/bin/env bash
# A real SLURM of one node on this machine, for as long as a command runs:
#
#     tests/cluster/slurm_node.sh COMMAND [ARGUMENT...]
#
# Debian's packages: apt-get install slurmctld slurmd slurm-client munge. Runs as root, without systemd and without
# touching /etc/slurm: configuration, state, spool and logs lie in a temporary folder. The exit code is the command's.
set -euo pipefail

[ $# -gt 0 ] || { echo "usage: $0 COMMAND [ARGUMENT...]" >&2; exit 2; }
for tool in munged slurmctld slurmd sinfo; do
  command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install slurmctld slurmd slurm-client munge" >&2; exit 2; }
done

state=$(mktemp -d -t slurm_node.XXXXXX)
host=$(hostname -s)
pids=()
finish() {
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    kill "${pids[i]}" 2>/dev/null || true
    wait "${pids[i]}" 2>/dev/null || true
  done
  if [ "${KEEP_SLURM_STATE:-}" ]; then echo "state kept in $state" >&2; else rm -rf "$state"; fi
}
trap finish EXIT

mkdir -p "$state/ctld" "$state/spool" /run/munge
chown munge:munge /run/munge /var/lib/munge /var/log/munge /etc/munge
[ -f /etc/munge/munge.key ] || runuser -u munge -- /usr/sbin/mungekey
chmod 755 /run/munge "$state"
runuser -u munge -- /usr/sbin/munged --foreground >"$state/munged.log" 2>&1 &
pids+=($!)
for _ in $(seq 50); do munge -n >/dev/null 2>&1 && break; sleep 0.1; done

cat >"$state/slurm.conf" <<CONF
ClusterName=one_node
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
SlurmctldPort=${SLURM_CTLD_PORT:-16817}
SlurmdPort=${SLURM_D_PORT:-16818}
StateSaveLocation=$state/ctld
SlurmdSpoolDir=$state/spool
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=2000 State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$state/slurm.conf

slurmctld -D >"$state/slurmctld.out" 2>&1 &
pids+=($!)
slurmd -D >"$state/slurmd.out" 2>&1 &
pids+=($!)
for _ in $(seq 100); do sinfo -h -t idle 2>/dev/null | grep -q . && break; sleep 0.2; done
if ! sinfo -h -t idle | grep -q .; then
  echo "the node did not come up:" >&2
  tail -n 20 "$state"/*.log "$state"/*.out >&2
  exit 1
fi
sinfo
"$@"
