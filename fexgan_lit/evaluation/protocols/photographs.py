"""`protocol=photographs`: neutral faces in your own pictures, edited and read by published judges."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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

    def seen(self, picture: np.ndarray) -> Tensor:
        """Cut the face as the judges see it, (3, SIDE, SIDE) in [-1, 1], from `picture` (H, W, 3), perhaps edited."""
        return to_float(self.square(SEEN).cut(picture, SIDE)[None])[0]


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
    if not table.is_file():
        raise UserError(
            f"photographs.table={table}: no such file; expected a CSV with the columns image, person, affect"
        )
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
        without = str(error).partition("\nOr give the box")[0]
        raise UserError(
            f"photographs.table={table}: {faceless} of {len(rows)} pictures have no left, top, right, bottom, and "
            f"{without}"
        ) from error
    photos = []
    with worker or nullcontext():
        for number, (row, box) in enumerate(zip(rows.to_dict("records"), boxes.tolist(), strict=True)):
            try:
                photos.append(_photograph(row, box, table.parent, affects, worker))
            except UserError as error:
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
    if not row["image"]:
        raise UserError("expected the path of a picture")
    pixels = photo_pixels(folder / Path(row["image"]).expanduser())
    affect = resolve_affect(row["affect"], affects)
    if not row["person"]:
        raise UserError("no person; expected a name, the same for all pictures of a person")
    if all(box):
        try:
            sides = [float(side) for side in box]
        except ValueError:
            raise UserError(f"box {', '.join(box)}: expected four numbers of pixels, such as 26.5") from None
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


def edited(loaded: LoadedSystem, photo: Photograph, affects: Sequence[str]) -> Iterator[np.ndarray]:
    """Yield the picture (H, W, 3) uint8 with its face changed to each affect and pasted back."""
    square = photo.square(loaded.framing or loaded.usual_framing)
    crop = square.cut(photo.pixels, loaded.image_size)
    for affect in affects:
        picture = photo.pixels.copy()
        square.put_back(picture, loaded.synthesize(crop, affect))
        yield picture


def remarks(loaded: LoadedSystem, photos: Sequence[Photograph]) -> str:
    """Return what `generate` would say of these faces: too small for the run, too large, or not of its cast."""
    names = [photo.person for photo in photos]
    squares = [photo.square(loaded.framing or loaded.usual_framing) for photo in photos]
    notes = paste.face_notes(names, squares, [0.0] * len(squares), loaded.image_size)
    crops = [square.cut(photo.pixels, loaded.image_size) for square, photo in zip(squares, photos, strict=True)]
    strangers = loaded.strangers(to_float(np.stack(crops)))
    return "; ".join([*notes, *([loaded.stranger_note(strangers, names)] if strangers else [])])


class EditRequests:
    """Every neutral picture (S), asked for every other affect (A): N = A * S results, one affect after the other.

    Args:
        photos: n pictures.
        affects: the affects that the judge and all systems know.
        judges: judges of affect, and perhaps of identity.

    Attributes:
        asked: the A affects.
        sources: the S neutral pictures.
        people: who they show.
        faces: what the judges see of all pictures, (n, 3, SIDE, SIDE).
        verdicts: the affects that the judge reads in them, (n,).
        true: pairs of a picture with another affect and the result of the same person and affect.
    """

    def __init__(self, photos: Sequence[Photograph], affects: Sequence[str], judges: JudgePanel) -> None:
        self.judges, self.asked = judges, [name for name in affects if name != "neutral"]
        neutral = [row for row, photo in enumerate(photos) if photo.affect == "neutral"]
        self.sources = [photos[row] for row in neutral]
        self.people = list(dict.fromkeys(photo.person for photo in self.sources))
        S = len(self.sources)
        self.source = torch.arange(S).repeat(len(self.asked))  # (N,)
        self.wanted = torch.tensor([affects.index(name) for name in self.asked]).repeat_interleave(S)  # (N,)
        self.whose = torch.tensor([self.people.index(photo.person) for photo in self.sources])  # (S,)
        self.faces = torch.stack([photo.seen(photo.pixels) for photo in photos])
        self.verdicts, self._embedded = judges.affect.read(self.faces).affect, judges.embed(self.faces)
        self._neutral = torch.tensor(neutral)
        wanted = [
            (self.sources[k].person, affects[affect])
            for k, affect in zip(self.source.tolist(), self.wanted.tolist(), strict=True)
        ]
        shown = [(photo.person, photo.affect) for photo in photos]
        self.true = [(row, n) for n, pair in enumerate(wanted) for row, other in enumerate(shown) if other == pair]

    def __len__(self) -> int:
        return len(self.wanted)

    @property
    def before(self) -> Tensor:
        """The faces of the sources, (S, 3, SIDE, SIDE)."""
        return self.faces[self._neutral]

    def metrics(self, verdicts: Tensor, probes: Tensor | None, results: Tensor) -> dict[str, np.ndarray]:
        """Return the metrics of faces with verdicts (k,) and embeddings (k, E) in the place of k of the results."""
        found = {"judge_affect_accuracy": verdicts == self.wanted[results]}
        if probes is not None and self._embedded is not None:
            gallery, source = self._embedded[self._neutral], self.source[results]
            if len(self.people) > 1:
                found["rank1"] = rank1_hits(gallery, self.whose, probes, self.whose[source])
            found["identity_cosine"] = cosine_to_source(probes, gallery[source])
        return {name: values.double().numpy() for name, values in found.items()}

    def metrics_of_pictures(self, rows: Tensor, results: Tensor) -> dict[str, np.ndarray]:
        """Return the metrics of the pictures `rows` (k,) in the place of k of the results."""
        return self.metrics(self.verdicts[rows], None if self._embedded is None else self._embedded[rows], results)

    def baselines(self) -> list[Scores]:
        """Return the scores of the true pictures, if there are any, and of the sources."""
        found, N = [], len(self)
        if self.true:
            rows, results = torch.tensor(self.true).T
            count = np.bincount(results, minlength=N)
            with np.errstate(invalid="ignore"):  # NaN = 0 / 0 where there is no true picture
                means = {
                    k: np.bincount(results, v, N) / count for k, v in self.metrics_of_pictures(rows, results).items()
                }
            found.append(Scores(CEILING, means))
        return [*found, Scores(FLOOR, self.metrics_of_pictures(self._neutral[self.source], torch.arange(N)))]

    def score(self, method: Trained, progress: Callable[[int, int], None]) -> tuple[Scores, Tensor]:
        """Return the scores of a system and its results (S, A, 3, SIDE, SIDE)."""
        parts = []
        for number, photo in enumerate(self.sources):
            progress(number, len(self.sources))
            parts.append(torch.stack([photo.seen(picture) for picture in edited(method.loaded, photo, self.asked)]))
        made = torch.stack(parts)
        faces = made.transpose(0, 1).flatten(0, 1)  # (S, A, ...) -> (A * S, ...)
        found = self.metrics(self.judges.affect.read(faces).affect, self.judges.embed(faces), torch.arange(len(self)))
        return Scores(method.name, found, run=str(method.loaded.folder), seed=method.loaded.run.seed), made

    def note_ceiling(self, photos: Sequence[Photograph], affects: Sequence[str]) -> dict[str, str]:
        """Tell the judges how well they read the true pictures, and return remarks on that."""
        affect, identity = self.judges.affect, self.judges.identity
        right = [affects[k] == photo.affect for k, photo in zip(self.verdicts.tolist(), photos, strict=True)]
        affect.affect_accuracy, affect.n_held_out = sum(right) / len(right), len(right)
        many = len({result for _, result in self.true})
        notes = {
            "true frames": f"other pictures of the person, for {many} of {len(self)} results; their row is over these"
        }
        if len(self.people) == 1:
            notes["identity"] = "the pictures show one person, so that there is nobody to be taken for, and no Rank-1"
        elif identity is not None and self.true:
            rows, results = torch.tensor(self.true).T
            identity.rank1 = float(self.metrics_of_pictures(rows, results)["rank1"].mean())
            identity.n_held_out = len(set(rows.tolist()))
        return notes


def find_photographs(methods: Sequence[Trained], settings: EvaluationSettings, command: str, stage: Stages) -> Findings:
    """Ask every neutral picture for every other affect, and let the judges read the results."""
    affects = [name for name in methods[0].system.affects if all(name in m.system.affects for m in methods)]
    if blind := [method.name for method in methods if "landmarks" in method.loaded.reads]:
        raise UserError(
            f"protocol=photographs: {', '.join(blind)} reads landmarks, which pictures do not have; leave it out"
        )
    judges = photograph_judges(settings, affects).to(settings.device)
    stage("reading photographs")
    photos = read_photographs(Path(str(settings.photographs.table)).expanduser(), affects)
    asked = EditRequests(photos, affects, judges)
    notes, made, scores = asked.note_ceiling(photos, affects), dict[str, Tensor](), asked.baselines()
    for method in methods:
        of_method, images = asked.score(method, stage(f"generating by {method.name}"))
        scores.append(of_method)
        made.setdefault(method.name, images)
        if remark := remarks(method.loaded, asked.sources):
            notes[method.name] = remark
    findings = Findings.of(
        scores, methods, judges, settings, title="Photographs edited by", command=command, over="results", notes=notes,
        where=f"{len(asked)} results: {len(asked.sources)} neutral pictures of {len(asked.people)} people, each asked "
        f"for {', '.join(asked.asked)}",
    )  # fmt: skip
    findings.judges = [line for line in findings.judges if not line.startswith("geometry")]  # nothing to train one on
    if len(asked.people) == 1:
        findings.warnings = [line for line in findings.warnings if not line.startswith("The identity judge")]
    findings.recipes = {name: text for name, text in RECIPES.items() if any(name in s.columns for s in scores)}
    by_affect = {name: (asked.wanted == affects.index(name)).numpy() for name in asked.asked}
    findings.tables.append(group_table(findings.rows, by_affect, "affect", "As asked", ["judge_affect_accuracy"]))
    whose = asked.whose[asked.source].numpy()
    findings.breakdowns += [class_table(row, "person", asked.people, whose, "results") for row in findings.rows]
    stage("drawing")
    shown = np.unique(np.linspace(0, len(asked.sources) - 1, settings.shown).round().astype(int))
    names, before = [asked.sources[k].person for k in shown], asked.before[shown]
    for name, images in made.items():
        sheet = figures.face_sheet(images[shown], names, asked.asked, references=before, reference_label="source")
        findings.add(f"photographs_{name}", sheet, f"Neutral pictures, and what {name} makes of them.")
    findings.draw_standings("results")
    return findings
