"""The space of a search: convert Hydra's intervals, ranges and choices to Optuna's distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from fexgan_lit.runs.sweeps.axes import split_overrides
from fexgan_lit.runs.sweeps.record import flatten
from fexgan_lit.utils.errors import UserError

#: Prefix of the space in the configuration.
SPACE = "sweep.space."


@dataclass(frozen=True)
class Dimension:
    """One option of a search.

    Attributes:
        key: the option, with a leading + if it is new to the configuration.
        text: its range of values in Hydra's grammar.
        distribution: its range of values for Optuna; choices are kept as text.
    """

    key: str
    text: str
    distribution: BaseDistribution

    @property
    def option(self) -> str:
        """The option without a leading +."""
        return self.key.lstrip("+")

    def override(self, drawn: Any) -> str:
        """Return the override that sets the option to a drawn value."""
        return f"{self.key}={drawn if isinstance(drawn, str) else repr(drawn)}"

    def probes(self) -> list[Any]:
        """Return the values with which the space is checked: both ends, or every choice."""
        if isinstance(self.distribution, CategoricalDistribution):
            return list(self.distribution.choices)
        return [self.distribution.low, self.distribution.high]  # type: ignore[attr-defined]


def make_space(
    config: DictConfig, arguments: Sequence[str], parser: OverridesParser
) -> tuple[list[str], list[Dimension]]:
    """Return the constant overrides and the search space: that of the configuration, changed by the command.

    Raises:
        UserError: the space is empty, an option cannot be searched, or the chosen system does not have it.
    """
    constant, varying = split_overrides(arguments, parser)
    space = flatten(_plain(config.sweep.space))
    texts = {key: f"{key}={text}" for key, text in space.items() if text is not None and not isinstance(text, Mapping)}
    check_known(config, texts)
    # axes may be given as sweep.space.loss.alpha=... or as loss.alpha=...
    given = [str(override.input_line).removeprefix(SPACE) for override in varying]
    texts |= {text.partition("=")[0].lstrip("+"): text for text in given}
    fixed = {text.partition("=")[0] for text in constant}
    if both := sorted(fixed & set(texts)):
        drop = " ".join(f"'~{SPACE}{key}'" for key in both)
        raise UserError(f"{', '.join(both)}: given one value, but in the search space; remove it there with {drop}")
    if not texts:
        raise UserError("sweep=optuna: the space is empty; add axes such as loss.alpha='tag(log,interval(0.01,10))'")
    return constant, [make_dimension(text, parser) for _, text in sorted(texts.items())]


def check_known(config: DictConfig, keys: Mapping[str, str]) -> None:
    """Check that the chosen system has all options of the space.

    Raises:
        UserError: it lacks some; the message says how to leave them out and which loss options the system has.
    """
    missing = object()
    if unknown := [key for key in keys if OmegaConf.select(config, key, default=missing) is missing]:
        drop = " ".join(f"'~{SPACE}{key}'" for key in unknown)
        has = ", ".join(f"loss.{name}" for name, value in config.loss.items() if isinstance(value, float))
        raise UserError(
            f"sweep.space: model={config.model.name} has no {', '.join(unknown)}. Remove these options with {drop}, "
            f"and add options that it has ({has}), such as loss.NAME='tag(log,interval(1,100))'."
        )


def make_dimension(text: str, parser: OverridesParser) -> Dimension:
    """Parse an option and its distribution from an override in Hydra's grammar.

    Raises:
        UserError: the value is not a valid interval, range or choice.
    """
    try:
        override = parser.parse_override(text)
        sweep = override._value
        if isinstance(sweep, IntervalSweep):
            distribution = interval(sweep)
        elif override.is_discrete_sweep():
            distribution = steps(sweep) if isinstance(sweep, RangeSweep) else choices(override)
        else:
            raise ValueError("expected interval(LOW,HIGH), tag(log,interval(LOW,HIGH)), range(...) or choice(A,B)")
    except (HydraException, ValueError, TypeError) as error:
        raise UserError(f"{text}: {' '.join(str(error).split())}") from error
    return Dimension(override.get_key_element(), text.partition("=")[2], distribution)


def interval(sweep: IntervalSweep) -> BaseDistribution:
    """Convert an interval: integers for `int(...)`, log-uniform with the tag `log`."""
    if unknown := sweep.tags - {"log"}:
        raise ValueError(f"tag {', '.join(sorted(unknown))}: the only tag is log")
    low, high, log = sweep.start, sweep.end, "log" in sweep.tags
    if low is None or high is None or not low < high:
        raise ValueError(f"expected a lower end below the upper one, found {low} and {high}")
    if log and low <= 0:
        raise ValueError(f"the tag log needs a lower end above 0, found {low}")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(float(low), float(high), log=log)


def steps(sweep: RangeSweep) -> BaseDistribution:
    """Convert a range, which excludes its end, to choices."""
    values = list(sweep.range())
    if not values:
        raise ValueError("the range has no value")
    return CategoricalDistribution([str(value) for value in values])


def choices(override: Override) -> BaseDistribution:
    """Convert a choice; the values are kept as text."""
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def _plain(node: Any) -> dict[str, Any]:
    content: Any = OmegaConf.to_container(node, resolve=True) if node is not None else {}
    return content
