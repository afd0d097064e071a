"""What commands import and compose before their work, done once in the server that `commands.py` forks."""

import gc
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

from hydra import compose, initialize_config_dir

import fexgan_lit
from fexgan_lit.figures import loss_curves
from fexgan_lit.utils.hydra import conf_folder

HOME = Path(fexgan_lit.__file__).parent

for name in ("lightning.pytorch", "sklearn.linear_model", "sklearn.model_selection"):
    import_module(name)
for package in ("data", "evaluation", "figures", "metrics", "runs", "systems", "training"):
    for module in walk_packages([str(HOME / package)], f"fexgan_lit.{package}."):
        import_module(module.name)
with initialize_config_dir(str(conf_folder()), version_base="1.3"):
    compose("train")  # the parsers of overrides and interpolations learn their grammars
loss_curves({"generator": ([1, 2], [0.1, 0.2])})  # Matplotlib finds its fonts
gc.collect()
gc.freeze()  # a forked process neither looks through what was imported nor copies its pages
