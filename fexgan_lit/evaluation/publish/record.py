"""`publish=<name>`: write a record to `experiments/<name>/` and the overlay that reproduces the runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fexgan_lit.evaluation.publish.overlay import GIVEN_BY_HAND, Tree
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import without_paths, write_atomic
from fexgan_lit.utils.hydra import conf_folder

if TYPE_CHECKING:
    from rich.console import Console

    from fexgan_lit.evaluation.sweep_report.report import ReportSettings
    from fexgan_lit.runs.folder import RunFolder


def places_of(run: Path, dataset_root: str | None, cache: str | None) -> dict[str, str]:
    """Map the local paths that a run may mention to public names."""
    known = {str(run): "RUN_DIR", str(run.resolve()): "RUN_DIR", str(Path.cwd()): ".", str(Path.home()): "~"}
    if dataset_root:
        known |= {str(dataset_root): "DIR"}
    if cache:
        known |= {str(cache): "CACHE_DIR"}
    return {place: name for place, name in known.items() if place not in ("", ".", "/")}


BEGIN, END = "<!-- generated: begin", "<!-- generated: end -->"


QUESTION, LEARNT = "Question", "What we learnt"


UNWRITTEN = "Not written yet."


@dataclass(frozen=True)
class Record:
    """The content of a record's README.

    Attributes:
        title: title of a new README.
        made_of: digest that identifies the runs.
        sections: generated sections, by heading.
        question: text of the question section; None keeps the present text.
        learnt: text of the section of lessons; None keeps the present text.
    """

    title: str
    made_of: str
    sections: Mapping[str, str]
    question: str | None = None
    learnt: str | None = None


def made_of(text: str) -> str | None:
    """Return the digest of the runs in the generated part of a README; None if it has no such part."""
    found = re.search(re.escape(BEGIN) + r"[^\n]* of (\S+) -->", text)
    return found.group(1) if found else None


def has_generated_part(text: str) -> bool:
    """Return whether a README has the begin mark and after it the end mark."""
    return BEGIN in text and END in text.partition(BEGIN)[2]


def generated_part(record: Record) -> str:
    """Return the generated sections between the begin and end marks."""
    sections = "\n".join(f"## {name}\n\n{body.strip()}\n" for name, body in record.sections.items())
    note = "by python -m fexgan_lit.report publish=..., which replaces the text up to the next mark;"
    return f"{BEGIN} {note} of {record.made_of} -->\n\n{sections}\n{END}"


def new_readme(record: Record) -> str:
    """Return a new README with hand-written sections before and after the generated part."""
    question, learnt = (text or UNWRITTEN for text in (record.question, record.learnt))
    return f"# {record.title}\n\n## {QUESTION}\n\n{question}\n\n{generated_part(record)}\n\n## {LEARNT}\n\n{learnt}\n"


def updated_readme(text: str, record: Record) -> str:
    """Return `text` with its generated part replaced, or appended if it has none.

    The question and the lessons in `record`, if given, replace the sections of those names or add them. The rest of
    the text stays.
    """
    if has_generated_part(text):
        before, _, rest = text.partition(BEGIN)
        behind = rest.partition(END)[2]
        text = f"{before}{generated_part(record)}{behind}"
    else:
        text = f"{text.rstrip()}\n\n{generated_part(record)}\n"
    for name, body in ((QUESTION, record.question), (LEARNT, record.learnt)):
        text = text if body is None else _with_section(text, name, body)
    return text


def _with_section(text: str, name: str, body: str) -> str:
    """Return `text` with the body of a section replaced, up to the next heading of its level, mark or end."""
    section = re.compile(rf"^(## {re.escape(name)}\n).*?(?=^#{{1,2}} |^<!-- generated|\Z)", re.MULTILINE | re.DOTALL)
    if not section.search(text):
        return f"{text.rstrip()}\n\n## {name}\n\n{body}\n"
    return section.sub(lambda found: f"{found.group(1)}\n{body}\n\n", text, count=1).rstrip() + "\n"


#: Pictures above this size in bytes are stored as JPEG, since a repository keeps every version of them.
_LARGE = 250_000


_QUALITY = 88


@dataclass(frozen=True)
class Publication:
    """The content of a record before it is written.

    Attributes:
        made_of: digest that identifies the runs.
        command: command that reproduces the runs.
        overlay: text of the overlay; None if none is to be written.
        sections: sections of the README, by heading.
        texts: further files, by name.
        figures: folder of the pictures.
        places: local paths and their public names, see `without_paths`.
    """

    made_of: str
    command: str
    overlay: str | None
    sections: Mapping[str, str]
    texts: Mapping[str, str]
    figures: Path
    places: Mapping[str, str]


@dataclass(frozen=True)
class Place:
    """The paths of a record.

    Attributes:
        name: name of the record.
        folder: folder of the record.
        overlay: path of the overlay.
    """

    name: str
    folder: Path
    overlay: Path

    @property
    def readme(self) -> Path:
        """Path of the README."""
        return self.folder / "README.md"

    @property
    def start(self) -> list[str]:
        """The first words of a train command that finds the overlay."""
        home = self.overlay.parent.parent
        found = [] if home.resolve() == conf_folder().resolve() else ["--config-dir", str(home)]
        return ["python", "-m", "fexgan_lit.train", *found]


def store_of(settings: ReportSettings) -> Place:
    """Return the paths of the record in `settings`; outside a checkout the overlay goes into the record's folder."""
    name, folder = str(settings.publish), Path(settings.to).expanduser() / str(settings.publish)
    checkout = (conf_folder().parent / "pyproject.toml").is_file()
    home = Path(settings.conf).expanduser() if settings.conf else conf_folder() if checkout else folder / "conf"
    return Place(name, folder, home / "experiment" / f"{name}.yaml")


def check_free(place: Place, made: str, regenerates: bool | None, overwrite: bool) -> None:
    """Check that the name is free or belongs to a record of the same runs.

    Args:
        place: paths of the record.
        made: digest of these runs.
        regenerates: whether the existing overlay reproduces these runs; None if there is no overlay.
        overwrite: whether the user allows to replace the record.

    Raises:
        UserError: a record of other runs has that name.
    """
    if overwrite:
        return
    hint = "Choose another name with publish=..., or give overwrite=true."
    if regenerates is False:
        raise UserError(f"publish={place.name}: {place.overlay} exists and makes other runs than these. {hint}")
    if not place.readme.is_file():
        return
    there = made_of(place.readme.read_text(encoding="utf-8"))
    if there is not None and there != made:
        raise UserError(f"publish={place.name}: {place.readme} is of other runs ({there}; these are {made}). {hint}")
    if there is None and regenerates is None:
        raise UserError(
            f"publish={place.name}: {place.readme} exists and does not say which runs it is of. {hint} "
            "overwrite=true keeps its text and adds the generated part."
        )


def write_record(publication: Publication, place: Place, settings: ReportSettings, console: Console) -> None:
    """Write README, tables, pictures and overlay, and print their paths."""
    pictures = copy_pictures(publication.figures, place.folder / "figures")

    def public(text: str) -> str:
        for name in pictures:
            text = text.replace(f"(figures/{Path(name).stem}.png)", f"(figures/{name})")
        return without_paths(text, publication.places)

    record = Record(
        settings.title or place.name.replace("_", " ").replace("-", " ").capitalize(), publication.made_of,
        {heading: public(body) for heading, body in publication.sections.items()}, settings.question, settings.learnt,
    )  # fmt: skip
    there = place.readme.read_text(encoding="utf-8") if place.readme.is_file() else None
    if there is not None and settings.overwrite and not has_generated_part(there):
        console.print(f"  {place.readme}: kept its text and added the generated part at its end", markup=False)
    write_atomic(place.readme, new_readme(record) if there is None else updated_readme(there, record))
    for name, text in publication.texts.items():
        write_atomic(place.folder / name, public(text))
    if publication.overlay is not None:
        write_atomic(place.overlay, without_paths(publication.overlay, publication.places))
    _say(place, publication, console)


def _say(place: Place, publication: Publication, console: Console) -> None:
    lines = [f"record     {place.readme}"]
    lines += [f"overlay    {place.overlay}"] if publication.overlay is not None else []
    lines.append(f"again      {publication.command}")
    if UNWRITTEN in place.readme.read_text(encoding="utf-8"):
        lines.append("to write   add the question and what was learnt in README.md, or with question=... learnt=...")
    console.print()
    for line in lines:
        console.print(f"  {line}", markup=False, soft_wrap=True)


def copy_pictures(source: Path, target: Path) -> list[str]:
    """Copy the pictures of a folder, large ones as JPEG; return their names in `target`."""
    from fexgan_lit.data.images import FrameError, load_image, read_bytes

    target.mkdir(parents=True, exist_ok=True)
    names = []
    for path in sorted(source.glob("*.png")):
        if path.stat().st_size <= _LARGE:
            write_atomic(target / path.name, path.read_bytes())
            names.append(path.name)
            continue
        try:
            picture = load_image(read_bytes(path))
        except FrameError as error:
            raise UserError(f"{path}: {error}") from error
        picture.convert("RGB").save(target / f"{path.stem}.jpg", quality=_QUALITY, optimize=True)
        (target / path.name).unlink(missing_ok=True)  # of an earlier publication
        names.append(f"{path.stem}.jpg")
    return names


def given_by_hand(config: Tree) -> list[str]:
    """Return the path options that the user has to give, such as ``dataset.root=DIR``."""
    from omegaconf import OmegaConf

    tree = OmegaConf.create(config)
    there = [key for key in GIVEN_BY_HAND if OmegaConf.select(tree, key)]
    return [f"{key}={'DIR' if key == 'dataset.root' else 'PATH'}" for key in there]


def command_text(words: Sequence[str]) -> str:
    """Return a command as a Markdown code block."""
    return f"```\n{shlex.join(words)}\n```"


def machine_text(facts: Sequence[str], machines: Sequence[str], minutes: float) -> str:
    """Return versions, machines and duration of the runs as a Markdown list."""
    lines = [fact for fact in facts if fact.startswith("fexgan_lit ")][:1]
    lines += machines
    if minutes:
        lines.append(f"{minutes:.1f} minutes")
    return "\n".join(f"- {line}" for line in lines) or "not recorded"


def data_text(facts: Sequence[str]) -> str:
    """Return the lines of a run's report that describe its data."""
    start = next((i for i, fact in enumerate(facts) if fact.startswith("data ")), len(facts))
    return "\n".join(f"- {fact}" for fact in facts[start:]) or "not recorded"


def pictures_text(report: str) -> str:
    """Return the sections of a report.md that show a picture, one heading level lower."""
    found = re.findall(r"^## (.+)\n\n(?:(.+)\n\n)?(!\[.*\]\(figures/.+\))$", report, re.MULTILINE)
    return "\n\n".join(f"### {name}\n\n{caption}\n\n{picture}" for name, caption, picture in found)


def report_of(run: RunFolder) -> str:
    """Return the report.md of a run; empty if there is none."""
    return run.report.read_text(encoding="utf-8") if run.report.is_file() else ""
