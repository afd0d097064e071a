"""`protocol=photographs`: neutral faces in your own pictures, edited and read by published judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fexgan_lit import figures
from fexgan_lit.data.datasets.csv_files import read_csv
from fexgan_lit.data.faces.geometry import Framing
from fexgan_lit.data.frames import to_float
from fexgan_lit.evaluation.measure import Scores
from fexgan_lit.evaluation.methods import CEILING, FLOOR, Trained
from fexgan_lit.evaluation.report import Findings
from fexgan_lit.evaluation.tables import class_table, group_table
from fexgan_lit.expression import resolve_affect
from fexgan_lit.inference import paste
from fexgan_lit.inference.images import photo_pixels
from fexgan_lit.metrics.identity import cosine_to_source, rank1_hits
from fexgan_lit.metrics.judges.external import OwnAffectJudge, OwnIdentityJudge
from fexgan_lit.metrics.judges.face_api_weights import face_api_judges
from fexgan_lit.metrics.judges.panel import JudgePanel, load_own_judges
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.data.faces.worker import FaceWorker
    from fexgan_lit.evaluation.config import EvaluationSettings
    from fexgan_lit.inference.loaded_system import LoadedSystem
    from fexgan_lit.utils.console import Stages

#: Side in pixels of the faces that the judges see.
SIDE = 160
#: The rim around a face that the judges see, in sides of its square: of rims from 0 to 0.5 the one with which face-api
#: reads 42 true frames of FERG-DB best (0.83 as labelled; 0.76 with 0.1, 0.21 with 0.4).
RIM = 0.05
SEEN = Framing(0.0, 0.0, 1 + 2 * RIM)
RECIPES = {
    "judge_affect_accuracy": "share of results that the affect judge reads as asked",
    "rank1": "share of results whose nearest neutral picture, by cosine of identity embeddings, shows the same person",
    "identity_cosine": "cosine of the identity embeddings of result and source",
}
_BOX = ["left", "top", "right", "bottom"]


@dataclass(frozen=True, eq=False)
class Photograph:
    """A picture of one face.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        person: whom it shows.
        affect: what the face shows.
        square: the square of the picture that lies as a `Framing` says, relative to the face.
    """

    pixels: np.ndarray
    person: str
    affect: str
    square: Callable[[Framing], paste.Square]


def read_photographs(table: Path, affects: Sequence[str]) -> list[Photograph]:
    """Read the pictures that a CSV lists.

    Args:
        table: CSV with the columns image (a path, relative to the table), person, affect, and where they are known
            left, top, right and bottom: a box in pixels around the face, as `LoadedSystem.edit` takes it. The face
            detector finds the other faces.
        affects: the affects that may occur.

    Raises:
        UserError: a column is missing, no picture is neutral, a value is wrong, a picture is unreadable, or not one
            face is found in it; the message names the row.
    """
    rows, _ = read_csv(table, "photographs.table")
    if lacking := [name for name in ("image", "person", "affect") if name not in rows.columns]:
        raise UserError(
            f"photographs.table={table}: no column {', '.join(lacking)}; expected image, person, affect, and left, "
            "top, right, bottom where the box of a face is known"
        )
    boxes = rows.reindex(columns=_BOX, fill_value="").to_numpy(str)  # (n, 4)
    faceless = int((boxes == "").all(axis=1).sum())
    try:
        worker = paste.face_worker() if faceless else None
    except UserError as error:
        raise UserError(
            f"photographs.table={table}: no left, top, right, bottom in {faceless} rows; {error}"
        ) from error
    photos = []
    with worker or nullcontext():
        for number, (row, box) in enumerate(zip(rows.to_dict("records"), boxes.tolist(), strict=True)):
            try:
                photos.append(_photograph(row, box, table.parent, affects, worker))
            except (UserError, ValueError) as error:
                message = f"photographs.table={table}, row {number + 1} ({row['image'] or 'no image'}): {error}"
                raise UserError(message) from error
    if not any(photo.affect == "neutral" for photo in photos):
        raise UserError(
            f"photographs.table={table}: {len(photos)} pictures, none neutral; expected neutral ones to edit"
        )
    return photos


def _photograph(
    row: dict[str, str], box: list[str], folder: Path, affects: Sequence[str], worker: FaceWorker | None
) -> Photograph:
    """Read the picture of a row, with the four sides of its box or none of them."""
    pixels = photo_pixels(folder / Path(row["image"]).expanduser())
    affect = resolve_affect(row["affect"], affects)
    if not row["person"]:
        raise UserError("no person; expected a name, the same for all pictures of a person")
    if all(box):
        sides = [float(side) for side in box]
        paste.squares_in(pixels, SEEN, None, [sides])  # raises for a box outside the picture
        return Photograph(pixels, row["person"], affect, partial(paste.Square.in_box, sides))
    if any(box) or worker is None:
        raise UserError(f"box {', '.join(side or '?' for side in box)}: expected all four sides, or none")
    if len(faces := paste.look(worker, pixels)) != 1:
        raise UserError(f"{len(faces)} faces found; expected one, or its left, top, right and bottom")
    return Photograph(pixels, row["person"], affect, partial(paste.Square.around, faces[0].points))


def photograph_judges(settings: EvaluationSettings, affects: Sequence[str]) -> JudgePanel:
    """Return judges of affect and identity that need no frames to be trained on.

    Raises:
        UserError: the settings name none.
    """
    asked = settings.metrics
    own = load_own_judges(asked.affect_judge, identity=asked.identity_judge)
    affect, identity = own.affect, own.identity
    if asked.external is not None:
        crop = ([0.0, 0.0, 1.0, 1.0], f"the box around the face and {RIM:.0%} of it on each side")
        found = face_api_judges(settings.dataset.cache_dir, crop, asked.affect_judge, asked.identity_judge)
        affect, identity = found["affect"], found["identity"]
    if affect is None:
        raise UserError(
            "protocol=photographs has no frames to train a judge on; expected metrics.external=face_api, or a judge of "
            "your own, metrics.affect_judge.path=FILE"
        )
    return JudgePanel(
        OwnAffectJudge.of(affect, affects), identity=None if identity is None else OwnIdentityJudge.of(identity)
    )


def edited(loaded: LoadedSystem, photos: Sequence[Photograph], affect: str) -> list[np.ndarray]:
    """Return the pictures (H, W, 3) uint8 with their faces changed to `affect` and pasted back."""
    squares = [photo.square(loaded.framing or loaded.usual_framing) for photo in photos]
    pictures = [photo.pixels.copy() for photo in photos]
    crops = np.stack([square.cut(p, loaded.image_size) for square, p in zip(squares, pictures, strict=True)])
    for square, picture, face in zip(squares, pictures, loaded.synthesize(crops, affect), strict=True):
        square.put_back(picture, face)
    return pictures


def find_photographs(methods: Sequence[Trained], settings: EvaluationSettings, command: str, stage: Stages) -> Findings:
    """Ask every neutral picture for every other affect, and let the judges read the results."""
    affects = [name for name in methods[0].system.affects if all(name in m.system.affects for m in methods)]
    asked = [name for name in affects if name != "neutral"]
    judges = photograph_judges(settings, affects).to(settings.device)
    stage("reading photographs")
    photos = read_photographs(Path(str(settings.photographs.table)).expanduser(), affects)
    neutral = [row for row, photo in enumerate(photos) if photo.affect == "neutral"]
    sources = [photos[row] for row in neutral]
    people = list(dict.fromkeys(photo.person for photo in sources))
    S, N = len(sources), len(sources) * len(asked)
    source = torch.arange(S).repeat(len(asked))  # (N,): source and asked affect of every result
    wanted = torch.tensor([affects.index(name) for name in asked]).repeat_interleave(S)  # (N,)
    whose = torch.tensor([people.index(photo.person) for photo in sources])  # (S,)

    def seen(photos: Sequence[Photograph], pictures: Sequence[np.ndarray]) -> Tensor:
        """Return what the judges see of n pictures of the faces in `photos`, (n, 3, SIDE, SIDE)."""
        return to_float(
            np.stack([p.square(SEEN).cut(picture, SIDE) for p, picture in zip(photos, pictures, strict=True)])
        )

    def columns(verdicts: Tensor, probes: Tensor | None, results: Tensor) -> dict[str, np.ndarray]:
        """Return the metrics of n faces, with verdicts (n,) and embeddings (n, E), in the place of n of the results."""
        found = {"judge_affect_accuracy": verdicts == wanted[results]}
        if probes is not None and gallery is not None:
            if len(people) > 1:
                found["rank1"] = rank1_hits(gallery, whose, probes, whose[source[results]])
            found["identity_cosine"] = cosine_to_source(probes, gallery[source[results]])
        return {name: values.double().numpy() for name, values in found.items()}

    faces = seen(photos, [photo.pixels for photo in photos])
    verdicts, embedded = judges.affect.read(faces).affect, judges.embed(faces)
    gallery = None if embedded is None else embedded[neutral]
    true = [
        (row, result) for result in range(N) for row, photo in enumerate(photos)
        if photo.person == sources[source[result]].person and photo.affect == affects[wanted[result]]
    ]  # fmt: skip
    scores = []
    if true:
        rows, results = torch.tensor(true).T
        found = columns(verdicts[rows], None if embedded is None else embedded[rows], results)
        with np.errstate(invalid="ignore"):  # NaN = 0 / 0 where a person has no true picture
            count = np.bincount(results, minlength=N)
            scores.append(Scores(CEILING, {name: np.bincount(results, v, N) / count for name, v in found.items()}))
    unchanged = torch.tensor(neutral)[source]
    every = torch.arange(N)
    scores.append(Scores(FLOOR, columns(verdicts[unchanged], None if gallery is None else gallery[source], every)))
    made: dict[str, Tensor] = {}
    for method in methods:
        progress, parts = stage(f"generating by {method.name}"), []
        for number, name in enumerate(asked):
            progress(number, len(asked))
            parts.append(seen(sources, edited(method.loaded, sources, name)))
        result = torch.cat(parts)
        measured = columns(judges.affect.read(result).affect, judges.embed(result), every)
        run, seed = str(method.loaded.folder), method.loaded.run.seed
        scores.append(Scores(method.name, measured, run=run, seed=seed))
        made.setdefault(method.name, torch.stack(parts, dim=1))  # (S, A, 3, SIDE, SIDE)

    right = [affects[k] == photo.affect for k, photo in zip(verdicts.tolist(), photos, strict=True)]
    judges.affect.affect_accuracy, judges.affect.n_held_out = sum(right) / len(right), len(right)
    if judges.identity is not None and true and len(people) > 1:
        judges.identity.rank1, judges.identity.n_held_out = float(found["rank1"].mean()), len(true)
    findings = Findings.of(
        scores, methods, judges, settings, title="Photographs edited by", command=command, over="results",
        where=f"{N} results: {S} neutral pictures of {len(people)} people, each asked for {', '.join(asked)}",
        notes={"true frames": f"other pictures of the person, for {len({r for _, r in true})} of {N} results"},
    )  # fmt: skip
    findings.judges = [line for line in findings.judges if not line.startswith("geometry")]  # nothing to train one on
    findings.recipes = {name: text for name, text in RECIPES.items() if any(name in s.columns for s in scores)}
    by_affect = {name: (wanted == affects.index(name)).numpy() for name in asked}
    findings.tables.append(group_table(findings.rows, by_affect, "affect", "As asked", ["judge_affect_accuracy"]))
    findings.breakdowns += [
        class_table(row, "person", people, whose[source].numpy(), "results") for row in findings.rows
    ]
    stage("drawing")
    shown = np.unique(np.linspace(0, S - 1, settings.shown).round().astype(int))
    names, before = [sources[k].person for k in shown], faces[neutral][shown]
    for name, images in made.items():
        sheet = figures.face_sheet(images[shown], names, asked, references=before, reference_label="source")
        findings.add(f"photographs_{name}", sheet, f"Neutral pictures, and what {name} makes of them.")
    findings.draw_standings("results")
    return findings
