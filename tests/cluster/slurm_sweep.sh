#!/usr/bin/env bash
# A small sweep through a real SLURM of one node: two runs of seconds each, then the same command again.
#
#     tests/cluster/slurm_sweep.sh [OVERRIDE...]        # PYTHON=... names the interpreter
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python}
work=$(mktemp -d -t slurm_sweep.XXXXXX)
trap 'rm -rf "$work"' EXIT
export PYTHONPATH=$(cd "$here/../.." && pwd)${PYTHONPATH:+:$PYTHONPATH} FEXGAN_LIT_CACHE=$work/cache

sweep=(
  "$python" -m fexgan_lit.train -m hydra/launcher=submitit_slurm hydra.launcher.partition=all
  hydra.launcher.timeout_min=10 hydra.launcher.cpus_per_task=1 hydra.launcher.array_parallelism=2
  dataset.image_size=32 dataset.identities=2 dataset.takes=2 dataset.frames=3 dataset.batch_size=4
  dataset.val_fraction=0.5 dataset.min_target_intensity=0 model.width=0.05 model.latent_size=8 metrics.judge=false
  trainer.log_every=2 trainer.val_every=0 trainer.figures_every=0 trainer.checkpoint_every=1
  trainer.precision=float32 trainer.threads=1 trainer.max_steps=3 seed=1,2 "$@"
)
cd "$work"
for pass in first second; do
  echo "--- $pass pass"
  "$here/slurm_node.sh" "${sweep[@]}"
done
echo "--- what SLURM ran"
head -n 3 multirun/*/.submitit/*/*_log.out
ls multirun/*/*/result.json
[ "$(ls multirun/*/*/result.json | wc -l)" = 2 ]
