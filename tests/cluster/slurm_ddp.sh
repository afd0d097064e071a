#!/usr/bin/env bash
# One run on two tasks of a real SLURM of one node: a batch job that is signalled, queues itself again and finishes.
#
#     tests/cluster/slurm_ddp.sh [OVERRIDE...]        # PYTHON=... names the interpreter
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
export PYTHON=${PYTHON:-python}
work=$(mktemp -d -t slurm_ddp.XXXXXX)
trap 'rm -rf "$work"' EXIT
export PYTHONPATH=$(cd "$here/../.." && pwd)${PYTHONPATH:+:$PYTHONPATH} FEXGAN_LIT_CACHE=$work/cache
export OVERRIDES="model=stargan dataset.image_size=32 dataset.identities=2 dataset.takes=2 dataset.frames=3
  dataset.batch_size=4 dataset.val_fraction=0.5 dataset.min_target_intensity=0 model.width=0.05 metrics.judge=false
  trainer.log_every=2 trainer.val_every=0 trainer.figures_every=0 trainer.checkpoint_every=5 trainer.precision=float32
  trainer.threads=1 trainer.accelerator=cpu trainer.max_steps=60 $*"

cat >"$work/job.sh" <<'JOB'
#!/bin/bash
#SBATCH --job-name=fexgan
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=2
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=job.log
echo "--- start ${SLURM_RESTART_COUNT:-0} of job $SLURM_JOB_ID"
srun --kill-on-bad-exit=1 "$PYTHON" -m fexgan_lit.train trainer=ddp trainer.devices=2 trainer.go_on=true \
  hydra.run.dir="$PWD/night" $OVERRIDES
code=$?
echo "--- srun ended with $code"
[ "$code" = 75 ] && scontrol requeue "$SLURM_JOB_ID"
exit "$code"
JOB

cat >"$work/drive.sh" <<'DRIVE'
#!/usr/bin/env bash
set -euo pipefail
job=$(sbatch --parsable job.sh)
for _ in $(seq 1500); do [ -f night/checkpoints/last.ckpt ] && break; sleep 0.2; done
scancel --signal=USR1 "$job" # to the tasks, not to the batch script
for _ in $(seq 3000); do
  [ -f night/result.json ] && ! squeue -h -j "$job" 2>/dev/null | grep -q . && break
  sleep 0.2
done
cat job.log
DRIVE
chmod +x "$work/drive.sh"
cd "$work"
unset OMP_NUM_THREADS # nproc obeys it, and the node would have a single processor
"$here/slurm_node.sh" "$work/drive.sh"
echo "--- what the run says"
grep -E '"(status|iteration)"' night/result.json
grep -q '"status": "finished"' night/result.json
ls
