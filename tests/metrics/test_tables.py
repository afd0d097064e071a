from __future__ import annotations

import io

from rich.console import Console

from fexgan_lit.evaluation.publish.run import tables_of
from fexgan_lit.evaluation.tables import Row, as_latex
from fexgan_lit.metrics.tables import quality_table, table1
from fexgan_lit.utils.tables import TextTable, escaped

VALUES = {
    "d_real_binary": 0.9125,
    "d_real_affect": 1.0,
    "d_fake_binary": 0.5,
    "d_fake_affect": 0.25,
    "ssim": 0.97123,
    "psnr": float("inf"),
    "judge_affect_accuracy": 0.98,
    "judge_identity_accuracy": 1.0,
    "real_judge_affect_accuracy": 0.995,
    "real_judge_identity_accuracy": 1.0,
}


def test_table1_has_the_papers_layout_and_their_figures_apart():
    table = table1(VALUES, VALUES, classes=8)
    assert table.header == ("", "Real binary", "Real 8-way", "Fake binary", "Fake 8-way")
    assert table.rows[0] == ("Train", "0.912", "1.000", "0.500", "0.250")
    assert [row[0] for row in table.rows[:2]] == ["Train", "Validation"]
    text = table.markdown()
    assert "| *FExGAN, FERG-DB, Validation (paper)* | *0.913* | *0.997* | *1.000* | *0.995* |" in text
    assert text.count("(paper)") == 4


def test_without_validation_it_says_so():
    table = table1(VALUES, None)
    assert not any(row[0] == "Validation" for row in table.rows)
    assert "no validation frames" in table.markdown()


def test_quality_has_a_ceiling_row_and_marks_what_is_absent():
    table = quality_table(None, VALUES, None, notes={"fid": "absent: no weights"})
    assert "FID" not in table.header
    generated, ceiling = table.rows
    assert generated == ("Validation, generated", "0.971", "inf", "-", "0.980", "1.000")
    assert ceiling == ("Validation, real frames (ceiling)", "-", "-", "-", "0.995", "1.000")
    assert "fid: absent: no weights" in table.markdown()
    assert "FID" in quality_table(None, {**VALUES, "fid": 12.0}, None).header


def test_rich_shows_every_cell():
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table1(VALUES, VALUES).rich())
    text = console.export_text()
    assert "0.912" in text
    assert "FExGAN-Meta, MH-FED, Train (paper)" in text


HOSTILE = "<img src=x onerror=alert(1)> [ann](http://x) **b** _c_ `d` a|b a_b [0.1, 0.2]\n# top"


def test_names_are_shown_as_they_are_in_markdown():
    shown = (
        "&lt;img src=x onerror=alert(1)&gt; [ann\\](http://x) \\*\\*b\\*\\* \\_c\\_ \\`d\\` a|b a_b [0.1, 0.2] # top"
    )
    assert escaped(HOSTILE) == shown
    table = TextTable(HOSTILE, ("", HOSTILE), ((HOSTILE, "**0.9**"),), notes=(HOSTILE,))
    in_a_cell = shown.replace("|", "\\|")
    assert table.markdown().splitlines() == [
        f"**{shown}**", "", f"|  | {in_a_cell} |", "|---|---:|", f"| {in_a_cell} | **0.9** |", "", f"- {shown}"
    ]  # fmt: skip
    (again,) = tables_of(table.markdown())
    assert again.rows == ((" ".join(HOSTILE.split()), "**0.9**"),)


def test_names_are_shown_as_they_are_in_latex():
    assert r"a\textbackslash{}input\{x\} \$\&\%\_\#\textasciitilde{}\textasciicircum{}" in as_latex(
        [Row("a\\input{x} $&%_#~^", {}, (), (), {})], []
    )
