"""`python -m fexgan_lit.train`: train a system and write a run folder."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.runs.folder import register_resolver
from fexgan_lit.training.fit import is_started_among_several, train_run
from fexgan_lit.utils.console import train_console
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.hydra import check_optional_groups, fail, run_command


def train(cfg: DictConfig) -> Any:
    """Train the run in `cfg`, resume the run at `cfg.run`, or perform a job of a sweep."""
    from hydra.core.hydra_config import HydraConfig

    from fexgan_lit.runs.sweeps.job import is_sweep_job, work_off
    from fexgan_lit.utils.trust import foreign_packages, trust

    if not cfg.run:  # the user wrote this configuration, so it may name any class
        trust(foreign_packages(OmegaConf.to_container(cfg)))
    check_optional_groups(HydraConfig.get())
    if is_sweep_job():
        return work_off(cfg, train_run)
    place = None
    if cfg.run or cfg.trainer.go_on:
        from fexgan_lit.runs.resume import find_resumable_run, named_run

        cfg, place = named_run(cfg) if cfg.run else find_resumable_run(cfg)
    return train_run(cfg, train_console(), place)


def main() -> None:
    """Run the command; if there are several processes, the others follow rank 0."""
    register_resolver()
    try:
        if not is_started_among_several():
            run_command(train, "train")
            return
        from fexgan_lit.training.distributed import connect, disconnect, find_environment
        from fexgan_lit.training.follow import follow

        environment = find_environment()
        if environment is not None and environment.global_rank():
            follow(environment)
            return
        if environment is not None:
            connect(environment)  # the other processes wait there
        run_command(train, "train")
        disconnect()
    except UserError as error:
        fail(str(error))


if __name__ == "__main__":
    main()
