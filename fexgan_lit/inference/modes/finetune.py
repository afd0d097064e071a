"""`mode=tune`: fine-tune a run on a few images of a complex expression or a new identity."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fexgan_lit.data.frames import to_uint8
from fexgan_lit.expression import Expression, rows_of
from fexgan_lit.inference.finetuning import FinetuneSet, TuningRecipe, gather, tunable, tune
from fexgan_lit.inference.output import file_name, grey_levels
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.options import Options, option

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import FixedPairLoader, PairBatch, PairLoader
    from fexgan_lit.inference.session import GenerationSession
    from fexgan_lit.systems.base import ExpressionSystem

RUN, TABLE = "run", "before_and_after.md"
#: Number of pairs of the old data for the metrics, and of rows in each figure.
_OLD_PAIRS, _ROWS = 128, 8
_MOST_STEPS = 100_000


@dataclass
class TuneOptions(Options):
    """Labels of the images, and hyperparameters of fine-tuning.

    Attributes:
        affect: affect of all images, or weights such as {anger: 1, sadness: 1}; None uses the annotations.
        person: identity of all images, from the run's data or a new name; None uses the annotations, else a new one.
        networks: networks to fine-tune; None: the decoder, or the generator of systems without one.
        steps: number of optimizer steps.
        rate: learning rate of Adam.
        keep: weight of the loss on the run's own data, which prevents forgetting.
        held_out: share of the images for the metrics, not used for training.
    """

    affect: Any = None
    person: str | None = None
    networks: list[str] | None = None
    steps: int = option(300, at_least=1, at_most=_MOST_STEPS)
    rate: float = option(2e-4, "a learning rate above 0, such as 2e-4", above=0, below=1)
    keep: float = option(1.0, "a weight, 0 or more", at_least=0)
    held_out: float = option(0.25, "a share in 0..1, 1 left out", at_least=0, below=1)


@dataclass(frozen=True, eq=False)
class Compared:
    """Real images, and images generated from their sources before and after, (N, 3, S, S) each, on the CPU."""

    sources: Tensor
    true: Tensor
    before: Tensor
    after: Tensor

    def numbers(self) -> dict[str, dict[str, float]]:
        """Return SSIM and the mean difference in grey levels of 255, before and after."""
        from fexgan_lit.metrics.pixels import ssim

        return {
            name: {"ssim": round(float(ssim(made, self.true).mean()), 4),
                   "grey_levels": round(float(grey_levels(made, self.true).mean()), 3)}
            for name, made in (("before", self.before), ("after", self.after))
        }  # fmt: skip


def tune_run(session: GenerationSession, options: TuneOptions) -> None:
    """Fine-tune the run, measure the effect on held-out images and on the old data, and write a new run folder.

    Raises:
        UserError: the images have no labels, or the run cannot be fine-tuned on its data.
    """
    if session.settings.images is None:
        raise UserError("mode=tune: images=DIR is missing; expected a few images for fine-tuning")
    if not session.data.has_truth:
        raise UserError(
            f"mode=tune: the data of {session.run.dataset.name} have no pairs of one person with two affects, so the "
            "run would forget its own data"
        )
    handful = gather(session, options.affect, options.person, options.held_out)
    parts = tunable(session.system, options.networks)
    original = copy.deepcopy(session.system)
    session.say(
        f"{len(handful.learnt)} images of {', '.join(dict.fromkeys(handful.people))} for training, "
        f"{len(handful.held_out)} for metrics; tuned networks: {' and '.join(parts)}"
    )
    recipe = TuningRecipe(options.steps, options.rate, options.keep)
    history = _train(session, list(parts.values()), handful, recipe)
    new, old = _on_handful(session, original, handful), _on_old(session, original)
    _write_run(session, options, list(parts))
    _report(session, new, old, history)
    _draw(session, original, handful, new, old)
    if isinstance(options.affect, Mapping) and session.system.reads == {"affect"}:
        _draw_cast(session, original, handful.shown)


def _train(
    session: GenerationSession, parts: list[Any], handful: FinetuneSet, recipe: TuningRecipe
) -> list[tuple[float, float]]:
    from fexgan_lit.utils.console import stage_bar

    with stage_bar(session.console) as bar:
        task = bar.add_task("tuning", total=recipe.steps)
        return tune(
            session.system, parts, handful, endless(session.data.train_dataloader()), recipe, session.settings.seed,
            lambda steps: bar.update(task, advance=steps),
        )  # fmt: skip


def endless(loader: PairLoader) -> Iterator[PairBatch]:
    """Yield the run's training batches without end."""
    epoch = 0
    while True:
        for batch in range(len(loader)):
            yield loader.batch(epoch, batch)
        epoch += 1


@torch.no_grad()
def _on_handful(session: GenerationSession, original: ExpressionSystem, handful: FinetuneSet) -> Compared:
    """Generate the held-out images, each from the first source of its identity."""
    source, shown, true, wanted = handful.pairs(handful.held_out)
    made: list[list[Tensor]] = [[], []]
    for part in torch.arange(len(source)).split(session.settings.batch_size):
        device = session.system.device
        asked = source[part].to(device), rows_of(shown, part).to(device), rows_of(wanted, part).to(device)
        for faces, system in zip(made, (original, session.system), strict=True):
            faces.append(system.synthesize(*asked).float().cpu())
    return Compared(source, true, torch.cat(made[0]), torch.cat(made[1]))


@torch.no_grad()
def _on_old(session: GenerationSession, original: ExpressionSystem) -> Compared:
    """Generate pairs of the validation split, or of the training split if there is none."""
    parts: list[tuple[Tensor, ...]] = []
    for batch in _old_pairs(session):
        pairs, K = batch.to(session.system.device), len(session.system.affects)
        asked = (pairs.source, pairs.source_expression(K), pairs.target_expression(K))
        made = [system.synthesize(*asked).float().cpu() for system in (original, session.system)]
        parts.append((batch.source, batch.target, *made))
    return Compared(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _old_pairs(session: GenerationSession) -> FixedPairLoader:
    from fexgan_lit.data.pairs import FixedPairLoader, fixed_pairs

    data, d = session.data, session.run.dataset
    frames = data.val if data.val is not None else data.train
    pairs = fixed_pairs(frames, d.split_seed, _OLD_PAIRS, d.min_target_intensity, d.targets == "exact")
    return FixedPairLoader(frames, pairs, session.settings.batch_size, d.image_size)


def _write_run(session: GenerationSession, options: TuneOptions, parts: list[str]) -> None:
    """Write the new run folder with configuration and weights."""
    from fexgan_lit.runs.folder import RunFolder
    from fexgan_lit.runs.weights import save_weights

    before = RunFolder(session.loaded.folder)
    config = before.read_config()
    config.name = "tuned"
    config.tuned = {
        "from": str(before.path.resolve()), "images": str(Path(str(session.settings.images)).expanduser().resolve()),
        "networks": parts, "seed": session.settings.seed,
        **{name: value for name, value in asdict(options).items() if name not in ("networks",) and value is not None},
    }  # fmt: skip
    after = RunFolder.create(session.output.path(RUN, "the fine-tuned run, for run= of every command"), config)
    save_weights(session.system, after.weights)
    if (before.path / "faces").is_dir():
        shutil.copytree(before.path / "faces", after.path / "faces")


def _report(session: GenerationSession, new: Compared, old: Compared, history: list[tuple[float, float]]) -> None:
    from fexgan_lit.utils.tables import TextTable

    measured = {"held-out images of the handful": new.numbers(), "the run's own data": old.numbers()}
    rows = tuple(
        (f"{name}, {when}", f"{values['ssim']:.4f}", f"{values['grey_levels']:.2f}")
        for name, both in measured.items() for when, values in both.items()
    )  # fmt: skip
    counts = f"{len(new.true)} images of the handful and {len(old.true)} pairs of the run's data"
    notes = (f"metrics on {counts} that were not used for training",)
    table = TextTable("Before and after the tuning", ("", "SSIM", "difference, of 255"), rows, notes=notes)
    session.console.print(table.rich())
    session.output.text(TABLE, table.markdown(), "metrics on the images and on the run's own data, before and after")
    session.output.measured["tuning"] = {
        **{name.replace(" ", "_"): both for name, both in measured.items()},
        "loss": {"first": [round(part, 5) for part in history[0]], "last": [round(part, 5) for part in history[-1]]},
    }


def _draw(
    session: GenerationSession, original: ExpressionSystem, handful: FinetuneSet, new: Compared, old: Compared
) -> None:
    """Draw three figures: held-out images, each identity with every affect, and images of the old data."""
    from fexgan_lit.figures import clip_strips, face_sheet

    names = [handful.names[int(i)] for i in handful.held_out]
    columns = ["true", "before", "after"]
    for place, found, labels, shows in (
        ("handful.png", new, names, "held-out images, and images generated from their sources before and after"),
        ("old.png", old, [""] * len(old.true), "faces of the run's data before and after"),
    ):
        count = len(found.true)
        rows = torch.linspace(0, count - 1, min(_ROWS, count)).round().long()
        cells = torch.stack([found.true, found.before, found.after], dim=1)[rows]
        chosen = [labels[int(row)] for row in rows]
        page = face_sheet(cells, chosen, columns, references=found.sources[rows], reference_label="source")
        session.output.picture(place, page, shows)
    for i, name in enumerate(names):
        for column, images in (("true", new.true), ("before", new.before), ("after", new.after)):
            session.output.face(f"faces/{file_name(name)}/{column}", to_uint8(images[i : i + 1])[0], name, None)
    if session.system.reads == {"affect"}:
        people = list(dict.fromkeys(handful.people))[:_ROWS]
        cells, faces = _every_affect(session, original, handful, people)
        page = clip_strips(faces, cells, people, ["before", "after"], session.system.affects)
        session.output.picture("affects.png", page, "each person with every affect, before and after")


@torch.no_grad()
def _draw_cast(session: GenerationSession, original: ExpressionSystem, shown: Expression) -> None:
    """Draw the target expression on faces of the run's data, most of which were never seen with it."""
    from fexgan_lit.figures import face_sheet
    from fexgan_lit.inference.faces import from_frames

    cast = from_frames(session.frames, session.system.image_size, "")
    index = range(min(len(cast), _ROWS))
    device, cast = session.system.device, cast.select(index)
    asked, own = rows_of(shown, [0] * len(cast)).to(device), cast.shown.to(device)
    made = [system.synthesize(cast.images.to(device), own, asked).cpu() for system in (original, session.system)]
    page = face_sheet(torch.stack(made, dim=1), cast.names, ["before", "after"], references=cast.images)
    session.output.picture("cast.png", page, "the same expression on the faces of the run's data")


@torch.no_grad()
def _every_affect(
    session: GenerationSession, original: ExpressionSystem, handful: FinetuneSet, people: list[str]
) -> tuple[Tensor, Tensor]:
    """Return images before and after, (P, 2, K, 3, S, S), and their sources (P, 3, S, S)."""
    device, K = session.system.device, len(session.system.affects)
    rows, faces = [], []
    for name in people:
        image, shown = handful.source_for(handful.people.index(name))
        asked = session.system.expression(range(K))
        sources, shows = image.expand(K, -1, -1, -1).to(device), rows_of(shown, [0] * K).to(device)
        rows.append(torch.stack([s.synthesize(sources, shows, asked).cpu() for s in (original, session.system)]))
        faces.append(image[0])
    return torch.stack(rows), torch.stack(faces)
