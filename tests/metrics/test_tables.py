from __future__ import annotations

import io

from rich.console import Console

from fexgan_lit.metrics.tables import quality_table, table1

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
