"""Keyframes: what a file may say, where a face stands between two keys, and films of them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from fexgan_lit.expression import AFFECTS
from fexgan_lit.inference.animation.keyframes import Key, keyed_beat, places, read_keys
from fexgan_lit.inference.animation.video import gif_durations, gif_note
from fexgan_lit.inference.conditions import TargetSpec
from fexgan_lit.utils.errors import UserError
from tests.inference.conftest import WHO

KEYS = """# a smile
- {time: 0, expression: neutral}
- time: 0.4
  expression: {joy: 0.5}
  ease: linear
- {time: 1.0, expression: joy}
"""


def written(tmp_path, text):
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    return path


def test_keys_are_read_as_written(tmp_path):
    keys = read_keys(written(tmp_path, KEYS), AFFECTS)
    assert keys == [
        Key(0.0, TargetSpec({"neutral": 1.0})),
        Key(0.4, TargetSpec({"joy": 0.5}), "linear"),
        Key(1.0, TargetSpec({"joy": 1.0}), "smooth"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            KEYS + "- {time: 0.9, expression: fear}\n",
            r"keys\.yaml line 7: time 0\.9 s comes after 1 s; times must increase",
        ),
        (KEYS + "- {time: 1.0, expression: fear}\n", r"line 7: time 1 s comes after 1 s"),
        (KEYS + "- {time: 2, expression: fera}\n", r"line 7: expression=fera: .*Did you mean 'fear'"),
        (KEYS + "- {time: 2, expression: joy, eas: linear}\n", r"line 7: unknown field eas; .*Did you mean ease"),
        (KEYS + "- {time: 2, expression: joy, ease: bouncy}\n", r"line 7: ease is bouncy; expected one of linear"),
        (KEYS + "- {time: soon, expression: joy}\n", r"line 7: time is soon; expected seconds"),
        (KEYS + "- {time: -1, expression: joy}\n", r"line 7: time is -1"),
        (KEYS + "- {time: 2020-13-45, expression: joy}\n", r"line 7: time is 2020-13-45; expected seconds, 0 to 18000"),
        (KEYS + "- {time: 1.0e+308, expression: joy}\n", r"line 7: time is 1e\+308; expected seconds, 0 to 18000"),
        (KEYS + "- {time: 1000000000000, expression: joy}\n", r"line 7: time is 1000000000000; expected seconds"),
        (KEYS + "- {time: " + 5000 * "9" + ", expression: joy}\n", "cannot be read|invalid YAML"),
        (KEYS + "- " + 5000 * "[" + "\n", "cannot be read|invalid YAML"),
        (
            KEYS + "- {time: 2, expression: {joy: 1.0e+38}}\n",
            r"line 7: expression: joy is 1e\+38, expected a number, 0",
        ),
        ("- &a [x, x]\n- &b [*a, *a]\n- [*b, *b]\n", r"line 2: invalid YAML .*an alias"),
        (KEYS + "- {time: 2}\n", r"line 7: no expression"),
        (KEYS + "- joy\n", r"line 7: 'joy'; expected a list such as"),
        (KEYS + "- {time: [2, expression: joy}\n", r"line 7: invalid YAML"),
        ("- {time: 0, expression: joy}\n", "1 keys; expected two or more"),
        ("joy: 1\n", "expected a list such as"),
        ("", "expected a list such as"),
    ],
)
def test_mistakes_name_the_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_keys(written(tmp_path, text), AFFECTS)


def test_the_last_frame_shows_the_last_key(tmp_path):
    keys = read_keys(written(tmp_path, KEYS), AFFECTS)
    tact = keyed_beat(keys, None)
    assert (len(tact.times), tact.rate) == (26, Fraction(25))
    # 1 s lies between two frames of 2.4 a second: one more, that stands on the last key
    assert keyed_beat(keys, 2.4).times.tolist() == pytest.approx([0, 1 / 2.4, 2 / 2.4, 3 / 2.4])


def test_faces_come_to_a_key_as_it_says():
    keys = [
        Key(1, TargetSpec()),
        Key(2, TargetSpec(), "linear"),
        Key(4, TargetSpec(), "smooth"),
        Key(5, TargetSpec(), "hold"),
    ]
    before, shares = places(keys, np.array([0, 1, 1.25, 2, 2.5, 3, 4, 4.5, 5, 9]))
    # u * u * (3 - 2 u) at a quarter is 5 / 32
    expected = [0, 0, 0.25, 1, 1 + 5 / 32, 1.5, 2, 2, 3, 3]
    assert (before + shares).tolist() == pytest.approx(expected)


def test_a_film_of_keys(generate, runs, painting):
    def show_joy(source, shown, wanted):
        return source * 0 + 2 * wanted.affect[:, AFFECTS.index("joy"), None, None, None] - 1

    painting(show_joy)
    with open("keys.yaml", "w") as file:  # noqa: PTH123
        file.write(KEYS)
    done = generate(f"run={runs('fexgan')}", "mode=animate", "driver=keys.yaml", "fps=5", f"who={WHO[0]}")
    assert done.code == 0, done.err
    assert done.record["measured"]["film"] == {"frames": 6, "frames_a_second": 5.0, "seconds": 1.2}
    levels = [np.asarray(Image.open(done.folder / f"frames/{WHO[0]}/{i:04d}.png")).mean() / 255 for i in range(6)]
    # linear to 0.5 at 0.4 s, then smooth: at a third of the way 7 / 27, at two thirds 20 / 27
    assert levels == pytest.approx([0, 0.25, 0.5, 0.5 + 3.5 / 27, 0.5 + 10 / 27, 1], abs=0.003)
    assert (done.folder / f"{WHO[0]}.mp4").is_file()
    with Image.open(done.folder / f"{WHO[0]}.gif") as film:
        assert film.n_frames == 6
        assert film.info["duration"] == 200


def test_keys_of_action_units_move_those_alone(generate, runs, painting):
    painting(lambda source, shown, wanted: source)
    with open("keys.yaml", "w") as file:  # noqa: PTH123
        file.write("- {time: 0, expression: source}\n- {time: 0.4, expression: {AU12: 0.8}, ease: linear}\n")
    done = generate(f"run={runs('ganimation')}", "mode=animate", "driver=keys.yaml", "fps=5", f"who={WHO[0]}")
    assert done.code == 0, done.err
    asked = [done.asked(f"{i:04d}")["action_units"] for i in range(3)]
    assert [values["AU12"] for values in asked] == pytest.approx([0, 0.4, 0.8])
    assert sum(asked[2].values()) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["driver=none.yaml"], "driver=none.yaml: there is no such file"),
        (["driver=keys.yaml", "affect=joy"], "affect=joy: keyframes define the expressions themselves"),
        (["driver=units.yaml"], "fexgan reads affects; the target expression has none"),
    ],
)
def test_refused(overrides, message, generate, runs):
    for name, expression in (("keys.yaml", "joy"), ("units.yaml", "{AU12: 1}")):
        with open(name, "w") as file:  # noqa: PTH123
            file.write(f"- {{time: 0, expression: source}}\n- {{time: 1, expression: {expression}}}\n")
    done = generate(f"run={runs('fexgan')}", "mode=animate", *overrides)
    assert done.code == 2
    assert message in done.err


def test_what_a_gif_makes_of_a_rate():
    assert gif_note(50, Fraction(25)) == ""
    assert set(gif_durations(24, Fraction(24))) == {40, 50}
    assert sum(gif_durations(24, Fraction(24))) == 1000
    assert "frames last 40 or 50 ms" in gif_note(24, Fraction(24))
    assert "one frame in 2 is kept, frames last 30 or 40 ms" in gif_note(60, Fraction(60))


def test_a_film_has_a_longest_length(tmp_path):
    keys = read_keys(written(tmp_path, KEYS + "- {time: 1000, expression: fear}\n"), AFFECTS)
    assert len(keyed_beat(keys, 10).times) == 10_001
    with pytest.raises(UserError, match="1000 s at 25 frames a second; expected at most 18000 frames, 720 s"):
        keyed_beat(keys, None)
