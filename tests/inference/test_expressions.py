"""Named expressions: what a library may say, every picture with every expression, and what is saved."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fexgan_lit.expression import ACTION_UNITS, AFFECTS
from fexgan_lit.inference.conditions import TargetSpec
from fexgan_lit.inference.library import read_library, save_expression
from fexgan_lit.utils.errors import UserError

LIBRARY = """# mine
smile: {affects: {joy: 0.8}}
wink: {action_units: {AU12: 0.6, AU45: 1.0}}
smirk: {affects: {happy: 0.4, disgust: 0.2}, action_units: {14: 1}}
"""


def written(tmp_path, text=LIBRARY):
    path = tmp_path / "expressions.yaml"
    path.write_text(text)
    return path


def test_expressions_are_read_as_written(tmp_path):
    assert read_library(written(tmp_path), AFFECTS) == {
        "smile": TargetSpec({"joy": 0.8}),
        "wink": TargetSpec({}, {12: 0.6, 45: 1.0}),
        "smirk": TargetSpec({"joy": 0.4, "disgust": 0.2}, {14: 1.0}),
    }


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("grin: {affects: {joi: 1}}", r"grin\.affects=joi: 'joi' is not an affect .*Did you mean 'joy'"),
        ("grin: {action_units: {AU3: 1}}", r"grin: units: AU3 at 1; expected one of the units 1, 2, 4"),
        ("grin: {action_units: {AU12: 3}}", r"AU12 at 3; .* at 0\.\.1"),
        ("grin: {action_units: {joy: 1}}", "grin: "),
        ("grin: {affects: {AU12: 1}}", r"they belong in grin\.action_units"),
        ("grin: {affect: {joy: 1}}", "grin: unknown field affect; .*Did you mean affects"),
        ("grin: joy", "grin: found 'joy'; expected `smile"),
        ("grin: {affects: {}}", r"grin\.affects: found \{\}"),
        ("grin: {affects: {joy: much}}", "joy is much, expected a number"),
        ("a b: {affects: {joy: 1}}\na_b: {affects: {joy: 1}}", "a_b: its files would .* those of a b"),
    ],
)  # fmt: skip
def test_mistakes_are_named_all_at_once(tmp_path, entry, message):
    path = written(tmp_path, f"{LIBRARY}{entry}\nlast: {{affects: {{glee: 1}}}}\n")
    with pytest.raises(UserError, match=message) as error:
        read_library(path, AFFECTS)
    assert "last.affects=glee" in str(error.value)


def test_saved_expressions_are_read_back(tmp_path):
    path = tmp_path / "new" / "expressions.yaml"
    path.parent.mkdir()
    both = TargetSpec({"joy": 0.5}, {45: 0.25})
    save_expression(path, "half smile", TargetSpec({"joy": 0.5}))
    save_expression(path, "Zwinkern ü", both)
    save_expression(path, "half smile", TargetSpec({"joy": 0.4}))
    assert read_library(path, AFFECTS) == {"half smile": TargetSpec({"joy": 0.4}), "Zwinkern ü": both}
    for name, spec in (("half_smile", both), ("", both), ("a\nb", both), ("x" * 61, both), ("none", TargetSpec())):
        with pytest.raises(UserError):
            save_expression(path, name, spec)
    assert len(read_library(path, AFFECTS)) == 2


def test_every_picture_gets_every_expression(generate, runs, painting, tmp_path):
    """The brightness of a face is its AU12."""
    column = ACTION_UNITS.index(12)
    painting(lambda source, shown, wanted: source * 0 + 2 * wanted.aus[:, column, None, None, None] - 1)
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (40, 40)).save(tmp_path / "in" / f"{name}.png")
    path = written(tmp_path, "wink: {action_units: {AU12: 0.6, AU45: 1}}\nlips part: {action_units: {AU25: 1}}\n")
    command = (f"run={runs('ganimation')}", "mode=expressions", f"images={tmp_path / 'in'}", f"library={path}")
    done = generate(*command)
    assert done.code == 0, done.err
    assert "wink: AU12=0.6 AU45=1" in done.out
    for name in ("a", "b"):
        made = {path.name: np.asarray(Image.open(path)).mean() for path in (done.folder / "faces" / name).iterdir()}
        assert made == {"input.png": 0, "wink.png": pytest.approx(153, abs=1), "lips_part.png": 0}
    assert done.asked("faces/a/wink")["action_units"]["AU45"] == 1
    assert (done.folder / "sheet.png").is_file()
    one = generate(*command, "expressions=wink", out="one")
    assert len(one.record["pictures"]) == 4
    wrong = generate(*command, "expressions=[wimk]", out=None)
    assert wrong.code == 2
    assert "has wink, lips part. Did you mean wink?" in wrong.err


def test_expressions_that_a_run_cannot_read(generate, runs, tmp_path):
    command = (f"run={runs('fexgan')}", "mode=expressions", f"library={written(tmp_path)}", "who=nora")
    done = generate(*command)
    assert done.code == 0, done.err
    assert "left out: wink, smirk, since fexgan reads no action units" in done.out
    assert {entry["file"] for entry in done.record["pictures"]} == {"faces/nora/input.png", "faces/nora/smile.png"}
    named = generate(*command, "expressions=wink", out=None)
    assert named.code == 2
    assert "wink of" in named.err
    missing = generate(f"run={runs('fexgan')}", "mode=expressions", out=None)
    assert "library=expressions.yaml: there is no such file" in missing.err
