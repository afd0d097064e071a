"""`experiments/<name>/README.md`: what a person wrote is kept, what was generated stands between two marks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

BEGIN, END = "<!-- generated: begin", "<!-- generated: end -->"
QUESTION, LEARNT = "Question", "What we learnt"
UNWRITTEN = "Not written yet."


@dataclass(frozen=True)
class Record:
    """What goes into a README.

    Attributes:
        title: of a new one.
        made_of: what tells whether two records are of the same runs.
        sections: generated, by heading.
        question: None leaves what stands there.
        learnt: None leaves what stands there.
    """

    title: str
    made_of: str
    sections: Mapping[str, str]
    question: str | None = None
    learnt: str | None = None


def made_of(text: str) -> str | None:
    """What the generated part of a README was made of; None where it has no such part."""
    found = re.search(re.escape(BEGIN) + r"[^\n]* of (\S+) -->", text)
    return found.group(1) if found else None


def has_generated_part(text: str) -> bool:
    """Whether both marks stand in a README, in their order."""
    return BEGIN in text and END in text.partition(BEGIN)[2]


def generated_part(record: Record) -> str:
    """The sections between their marks."""
    sections = "\n".join(f"## {name}\n\n{body.strip()}\n" for name, body in record.sections.items())
    note = "by python -m fexgan_lit.report publish=..., which replaces what stands up to the next mark;"
    return f"{BEGIN} {note} of {record.made_of} -->\n\n{sections}\n{END}"


def new_readme(record: Record) -> str:
    """A README with its hand-written sections before and behind the generated part."""
    question, learnt = (text or UNWRITTEN for text in (record.question, record.learnt))
    return f"# {record.title}\n\n## {QUESTION}\n\n{question}\n\n{generated_part(record)}\n\n## {LEARNT}\n\n{learnt}\n"


def updated_readme(text: str, record: Record) -> str:
    """`text` with its generated part replaced, or appended where it has none; all else stays as it is.

    A question or a lesson that `record` brings replaces the section of that name, or adds one.
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
    """`text` with the body of a section replaced, up to the next heading of its rank, mark or end."""
    section = re.compile(rf"^(## {re.escape(name)}\n).*?(?=^#{{1,2}} |^<!-- generated|\Z)", re.MULTILINE | re.DOTALL)
    if not section.search(text):
        return f"{text.rstrip()}\n\n## {name}\n\n{body}\n"
    return section.sub(lambda found: f"{found.group(1)}\n{body}\n\n", text, count=1).rstrip() + "\n"
