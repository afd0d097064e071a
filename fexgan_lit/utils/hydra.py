"""Compose the configuration of a command, and exit with a message and code 2 on errors of the user."""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from omegaconf import DictConfig, open_dict

from fexgan_lit.utils.errors import UserError

USER_MISTAKE = 2

#: Configuration groups and options of earlier versions, and what replaces them.
MOVED = {
    "optimizer": "this group was removed. conf/model/NAME.yaml sets the optimizer of a model; give its values one by "
    "one, such as optimizer.lr=1e-4",
    "schedule": "this group was removed. conf/model/NAME.yaml sets the batch size and the decay of a model; give them "
    "one by one, such as dataset.batch_size=16 callbacks.linear_decay.start=0.5",
    "recipe": "this group was removed. conf/dataset/NAME.yaml sets the budget of a data set; give its values one by "
    "one, such as trainer.max_steps=1000",
    "trainer.strategy": "this option was removed, leave it out. Several devices average the gradients of one optimizer "
    "before it steps; Lightning's other strategies wait for the gradients of both networks in every backward pass",
}

_SEARCHPATH, _MULTIRUN = "hydra.searchpath=", ("-m", "--multirun")
#: Errors of a full disk, an exceeded quota and a read-only file system.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
#: Matches the out-of-memory messages of NumPy and of torch on a CPU or a GPU.
_NO_MEMORY = re.compile("allocate|out of memory")
#: Messages of Hydra's parser about unquoted special characters.
_NO_GRAMMAR = ("no viable alternative", "extraneous input", "mismatched input", "LexerNoViableAlt", "token recognition")


def stamp() -> str:
    """Return the current time as in the names of folders: 2026-11-20_10-00-00."""
    return datetime.now(tz=timezone.utc).astimezone().strftime("%Y-%m-%d_%H-%M-%S")


def results_folder(out: str | None, *words: str) -> str:
    """Return the folder that a command writes to: `out` if it can be, or a new one under outputs/ named by `words`."""
    if out and out_trouble(out) is None:
        return str(Path(out).expanduser())
    return f"outputs/{re.sub(r'[^A-Za-z0-9_.-]', '_', '_'.join([*words, stamp()]))}"


def run_command(task: Callable[[DictConfig], Any], config_name: str) -> None:
    """Compose `conf/<config_name>.yaml` with the command line and call `task` with it.

    A `UserError`, or an override that does not compose, prints its message and exits with code 2. Other errors keep
    their traceback. HYDRA_FULL_ERROR=1 shows all tracebacks.
    """
    import hydra

    from fexgan_lit.utils.hardware import keep_to_quota
    from fexgan_lit.utils.trust import trust

    # Hydra accepts options before or after all overrides, but not between them
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in _MULTIRUN)
    full = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # without this Hydra prints composition errors itself and exits with code 1
    os.environ["HYDRA_FULL_ERROR"] = "1"

    def guarded(cfg: DictConfig) -> Any:
        try:
            with no_stray_folder():
                check_nulls()
                keep_to_quota()
                trust(cfg.get("trust") or ())
                if config_name != "train":  # `train` reads the request of the run folder there
                    with open_dict(cfg):
                        cfg.pop("trust", None)
                return task(cfg)
        except UserError as error:
            # other jobs of a sweep continue; Hydra raises the error when they are done
            if full or _is_sweep():
                raise
            return fail(str(error))

    try:
        hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=config_name)(guarded)()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the pipe (`| head`) has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except Exception as error:
        message = None if full else user_message(error, config_name)
        if message is None:
            raise
        fail(message)


_NONE = re.compile(r"([=,:(\[]\s*)None(?=\s*(?:[,)\]}]|$))")


def check_nulls() -> None:
    """Check for `None` as a value on the command line, which Hydra reads as text.

    Raises:
        UserError: there are such overrides; the error lists them all.
    """
    from hydra.core.hydra_config import HydraConfig

    given = [override for override in HydraConfig.get().overrides.task if _NONE.search(override)]
    if given:
        cure = " ".join(_NONE.sub(r"\1null", override) for override in given)
        raise UserError(f"{', '.join(given)}: None is read as a text; expected {cure}")


def check_optional_groups(hydra: Any, groups: Sequence[str] = ("loss", "tuning")) -> None:
    """Check that the files of `loss=NAME` and `tuning=NAME` exist; Hydra ignores missing files of optional groups.

    Args:
        hydra: the section `hydra` of a composed configuration.
        groups: the optional groups of `conf/train.yaml`.

    Raises:
        UserError: a file does not exist; the error lists the available names.
    """
    places = [source for source in hydra.runtime.config_sources if source.schema in ("file", "pkg")]
    given = [override.lstrip("+").partition("=") for override in hydra.overrides.task]
    for group, _, value in given:
        if group not in groups:
            continue
        folders = [Path(s.path if s.schema == "file" else str(resources.files(s.path))) / group for s in places]
        files = [file.relative_to(folder) for folder in folders for file in folder.rglob("*.yaml")]
        known = sorted({file.with_suffix("").as_posix() for file in files})
        for name in (part.strip(" '\"") for part in value.strip("[]").split(",")):
            if name not in known:
                raise UserError(f"{group}={name}: {_no_such_file(group, known)}")


def leave_out(cfg: DictConfig, *sections: str) -> None:
    """Remove sections about training, which come from files of a group, from the `cfg` of a command without training.

    Raises:
        UserError: the command line sets a value in one of these sections.
    """
    from hydra.core.hydra_config import HydraConfig

    given = [o for o in HydraConfig.get().overrides.task if o.lstrip("+~").partition(".")[0] in sections]
    if given:
        raise UserError(f"{', '.join(given)}: there is no such option here; only python -m fexgan_lit.train reads it")
    with open_dict(cfg):
        for section in sections:
            cfg.pop(section, None)


def user_message(error: Exception, config_name: str) -> str | None:
    """Return the message to the user about `error`, or None if it is a bug."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return str(cause)
        # OmegaConf wraps errors of resolvers and removes their cause
        cause = cause.__cause__ or (cause.__context__ if isinstance(cause, OmegaConfBaseException) else None)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return explain_composition(error, config_name, sys.argv[1:])
    if isinstance(error, ValueError) and str(error).startswith("Config group override must be"):  # logger=null
        return f"{error}; expected the name of a group's file, such as logger=csv"
    if isinstance(error, ValueError) and "integer string conversion" in str(error):
        return "one of the options is a number of thousands of digits; expected a smaller one"
    if isinstance(error, MemoryError | RuntimeError) and _NO_MEMORY.search(str(error)):
        return (
            f"there is not enough memory: {str(error).splitlines()[0]}. A smaller batch_size, width or image_size, or "
            "fewer frames need less."
        )
    if isinstance(error, OSError) and (error.filename or error.errno in _NO_ROOM):
        where = f"{error.filename}: " if error.filename else ""
        way_on = "resume with run=RUN_DIR" if config_name == "train" else "repeat the command"
        return f"{where}{error.strerror}. What was on disk before is untouched; {way_on} once there is room."
    return None


def out_trouble(out: str, option: str = "out") -> str | None:
    """Return a message if the folder `out`, given by `option`, cannot be written, else None."""
    folder = Path(out).expanduser()
    if folder.exists() and not folder.is_dir():
        return f"{option}={out} is a file; expected a folder, or an unused name."
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):  # permissions alone do not tell, for example below /proc
            return None
    except OSError:
        return f"{option}={out} cannot be written; choose another folder."


@contextlib.contextmanager
def no_stray_folder() -> Iterator[None]:
    """If the body raises an error, remove the folder that Hydra created, and its parents, as far as they are empty."""
    from hydra.core.hydra_config import HydraConfig

    try:
        yield
    except BaseException:
        folder = Path(HydraConfig.get().runtime.output_dir)
        if folder.resolve() != Path.cwd():  # it is the working directory for commands without an output folder
            with contextlib.suppress(OSError):
                folder.rmdir()
                while (folder := folder.parent).name in ("outputs", "multirun"):
                    folder.rmdir()
        raise


def _is_sweep() -> bool:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def fail(message: str) -> NoReturn:
    """Print `message` and exit with code 2."""
    from rich.console import Console

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print("[bold red]error:[/] ", end="")
    console.print(message, markup=False)
    sys.exit(USER_MISTAKE)


def explain_composition(error: Exception, config_name: str, arguments: Sequence[str]) -> str:
    """Compose each override separately and return one message that lists all invalid ones."""
    from hydra import compose
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from hydra.initialize import initialize_config_dir
    from omegaconf.errors import OmegaConfBaseException

    def trouble(overrides: Sequence[str]) -> Exception | None:
        try:
            compose(config_name, list(overrides))
        except (HydraException, OmegaConfBaseException) as single:
            return single
        return None

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        given = [a for a in arguments if not a.startswith(("-", _SEARCHPATH)) and "=" in a]
        if {*_MULTIRUN, "sweep=optuna"} & set(arguments):
            given = [value for override in given for value in _one_by_one(override)]
        # the values of a group (loss.lambda_cycle) only exist once it is selected (model=ganimation)
        chosen = _searched(sys.argv[1:])
        moved = [override for override in given if override.lstrip("+").partition("=")[0] in MOVED]
        given = [override for override in given if override not in moved]
        for override in given:
            if "." not in override.partition("=")[0] and trouble([*chosen, override]) is None:
                chosen.append(override)
        known = _keys(compose(config_name, chosen))
        trained = [] if config_name == "train" else _keys(compose("train"))
        problems = [f"{override}: {MOVED[override.lstrip('+').partition('=')[0]]}" for override in moved]
        problems += [
            f"{override}: {_why(override, single, known, trained)}"
            for override in given
            if override not in chosen and (single := trouble([*chosen, override])) is not None
        ]
    if not problems:
        return _short(error)
    hint = f"python -m fexgan_lit.{config_name} --help lists every group and value"
    if any(problem.startswith("hydra/launcher=") for problem in problems):
        hint = "pip install 'fexgan_lit[sweeps]' installs joblib and submitit, 'fexgan_lit[ray]' installs ray"
    return "\n".join(["these options cannot be used:", *(f"  - {p}" for p in problems), hint])


def _searched(arguments: Sequence[str]) -> list[str]:
    """Return the override with the folders that a command adds to conf/ (`hydra.searchpath=`, `--config-dir`)."""
    given = [a.partition("=")[2].strip("[]") for a in arguments if a.startswith(_SEARCHPATH)]
    for flag, value in pairwise([*arguments, ""]):
        name, _, joined = flag.partition("=")
        if name in ("--config-dir", "-cd"):
            given.append(f"file://{Path(joined or value).resolve()}")
    return [f"{_SEARCHPATH}[{','.join(given)}]"] if given else []


def _one_by_one(override: str) -> list[str]:
    """Split a sweep over values into one override per value; use the lower end of an interval."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        return [override]
    if parsed.is_interval_sweep():
        return [f"{parsed.get_key_element()}={getattr(parsed.value(), 'start', 0)}"]
    if parsed.is_sweep_override():
        return [f"{parsed.get_key_element()}={text}" for text in parsed.sweep_string_iterator()]
    return [override]


def _keys(config: DictConfig, prefix: str = "") -> list[str]:
    """Return the full names of all values of a configuration."""
    found = []
    for key in config:
        name = f"{prefix}{key!s}"
        inner = config._get_node(key)
        found += [name, *(_keys(inner, f"{name}.") if isinstance(inner, DictConfig) else [])]
    return found


def _why(override: str, error: Exception, known: Sequence[str], trained: Sequence[str]) -> str:
    """Return the reason why `override` does not compose; see `_unknown`."""
    unknown = _missing_file(error, override) or _unknown(override, known, trained)
    return unknown or _unquoted(override, error) or _short(error)


def _unknown(override: str, known: Sequence[str], trained: Sequence[str]) -> str | None:
    """Return the message about an override whose name does not exist, or None if it exists.

    Args:
        override: the override, `name=value`.
        known: the options of the command.
        trained: those of `train`, whose groups of the same name may have others, if it is another command.
    """
    name = override.lstrip("+~").partition("=")[0].partition("@")[0]
    if name in known or "/" in name or name.startswith("hydra"):
        return None
    near = difflib.get_close_matches(name, known, n=1)
    here = " here; only python -m fexgan_lit.train reads it" if name in trained else ""
    return f"there is no such option{here}." + (f" Did you mean {near[0]}?" if near else "")


def _no_such_file(group: str, known: Sequence[str]) -> str:
    own = "" if _searched(sys.argv[1:]) else ". Files of your own need 'hydra.searchpath=[file://FOLDER]'"
    return f"there is no such file in conf/{group}; expected one of {', '.join(known)}{own}"


def _missing_file(error: BaseException, override: str = "") -> str | None:
    """Return the message about a missing file of a group, or None for other errors."""
    from hydra.errors import MissingConfigException

    if not (isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options):
        return None
    group, _, name = error.missing_cfg_file.rpartition("/")
    asked = "" if override.lstrip("+").startswith(f"{group}=") else f"{group}={name}: "  # another file selects it
    return asked + _no_such_file(group, error.options)


def _short(error: BaseException) -> str:
    """Shorten a message of Hydra to the lines that are useful to users."""
    if missing := _missing_file(error):
        return missing
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    noise = ("full_key", "object_type", "Set the environment variable", "See https://hydra.cc", "reference_type",
             "In '", "Config search path", "provider=")  # fmt: skip
    kept = [line for line in lines if not line.startswith(noise)] or lines
    return ", ".join(line.rstrip(";") for line in kept).replace(":, ", ": ")


def _unquoted(override: str, error: BaseException) -> str | None:
    """Return how to quote an override whose value contains special characters of Hydra, or None for other errors."""
    name, _, value = override.partition("=")
    if not any(words in str(error) for words in _NO_GRAMMAR):
        return None
    special = "characters such as = # ' , ( [ { and blanks are special in Hydra."
    if re.match(r"\[|\{[^{}]*:", value):  # a list or a mapping, whose entries may be quoted, but not all of it
        return f"{special} Put entries that contain them in double quotes, and the whole option in single quotes"
    cure = f'{name}="{value}"' if '"' not in value else f"{name}='{value}'"
    return f"{special} Put the value in quotes, and the whole option in quotes for the shell: {shlex.quote(cure)}"


def name_sweep_folder(arguments: Sequence[str]) -> list[str]:
    """Replace `sweep=DIR` by `sweep_dir=DIR`, for commands in which `sweep` is a folder.

    conf/sweep is a group of the training options, in which Hydra would look for a file named DIR.
    """
    return [f"sweep_dir={a.removeprefix('sweep=')}" if a.startswith("sweep=") else a for a in arguments]


def conf_folder() -> Path:
    """Return the folder `conf/`, which is inside the package in a wheel and beside it in a checkout."""
    package = Path(__file__).parents[1]
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"
