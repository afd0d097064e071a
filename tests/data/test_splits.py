from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from fexgan_lit.data.splits import split_rows
from fexgan_lit.data.table import FrameTable
from fexgan_lit.utils.errors import UserError


def table_of(cells, takes=None):
    """`cells` maps (identity, affect) to a number of frames; `takes` frames each belong to one take."""
    rows = [
        (f"{i}/{a}/{n}.png", i, a, n // takes if takes else 0) for (i, a), count in cells.items() for n in range(count)
    ]
    frame = pd.DataFrame(rows, columns=["path", "identity", "affect", "take"])
    if takes is None:
        frame = frame.drop(columns="take")
    identities = tuple(sorted({i for i, _ in cells}))
    affects = tuple(sorted({a for _, a in cells}))
    return FrameTable(frame.sample(frac=1, random_state=0).reset_index(drop=True), affects, identities, None)


def per_cell(table, rows):
    return Counter(map(tuple, table.frame.loc[rows, ["identity", "affect"]].to_numpy().tolist()))


CELLS = {("a", "fear"): 100, ("a", "joy"): 53, ("b", "fear"): 10, ("b", "joy"): 7}


@pytest.mark.parametrize(("fraction", "held_out"), [(0.2, [20, 11, 2, 1]), (0.3, [30, 16, 3, 2])])
def test_counts_of_the_papers(fraction, held_out):
    table = table_of(CELLS)
    split = split_rows(table, fraction)
    assert [per_cell(table, split.val)[cell] for cell in CELLS] == held_out
    assert sorted([*split.train, *split.val]) == list(range(170))
    assert split.whole == ()


def test_seed_decides_and_nothing_else():
    table = table_of(CELLS)
    first = split_rows(table, 0.2, seed=1)
    np.random.seed(3)  # noqa: NPY002 (the point: it has no influence)
    assert (split_rows(table, 0.2, seed=1).val == first.val).all()
    assert (split_rows(table, 0.2, seed=2).val != first.val).any()


def test_held_out_frames_are_spread_at_random():
    table = table_of({("a", "fear"): 1000, ("a", "joy"): 1000})
    val = split_rows(table, 0.2).val
    assert abs(val.mean() - 1000) < 60
    assert len(val) == 400


def test_small_cells_stay_whole_and_are_listed():
    table = table_of({("a", "fear"): 2, ("a", "joy"): 1, ("b", "joy"): 20})
    split = split_rows(table, 0.2)
    assert split.whole == ("a/fear (2 frames)", "a/joy (1 frame)")
    assert per_cell(table, split.val) == {("b", "joy"): 4}


def test_one_frame_always_stays_in_training():
    table = table_of({("a", "fear"): 2, ("a", "joy"): 3})
    split = split_rows(table, 0.9)
    assert per_cell(table, split.train) == {("a", "fear"): 1, ("a", "joy"): 1}


def test_no_validation_wanted():
    split = split_rows(table_of(CELLS), 0.0)
    assert (len(split.train), len(split.val), split.whole) == (170, 0, ())


def test_takes_stay_together():
    table = table_of({("a", "fear"): 30, ("a", "joy"): 20, ("b", "joy"): 10}, takes=10)
    split = split_rows(table, 0.2, by="take")
    keys = table.frame[["identity", "affect", "take"]].apply(tuple, axis=1)
    assert not set(keys[split.train]) & set(keys[split.val])
    assert per_cell(table, split.val) == {("a", "fear"): 10, ("a", "joy"): 10}
    assert split.whole == ("b/joy (1 take)",)


def test_takes_have_to_be_known():
    with pytest.raises(UserError, match=r"dataset\.split=take.*dataset\.annotations"):
        split_rows(table_of(CELLS), 0.2, by="take")
    table = table_of(CELLS, takes=5)
    gaps = table.frame.assign(take=table.frame["take"].astype("Int64").where(table.frame.index != 3))
    with pytest.raises(UserError, match=r"dataset\.split=take"):
        split_rows(FrameTable(gaps, table.affects, table.identities, None), 0.2, by="take")


def people(table, rows):
    return set(table.frame.loc[rows, "identity"])


@pytest.mark.parametrize(("fraction", "count", "held_out"), [(0.1, 10, 1), (0.25, 10, 3), (0.01, 10, 1), (0.99, 4, 3)])
def test_whole_people_are_held_out(fraction, count, held_out):
    table = table_of({(f"p{i}", affect): 3 + i for i in range(count) for affect in ("fear", "joy")})
    split = split_rows(table, fraction, by="identity")
    assert len(people(table, split.val)) == held_out
    assert not people(table, split.val) & people(table, split.train)
    assert sorted([*split.train, *split.val]) == list(range(len(table)))
    assert split.whole == ()


def test_seed_chooses_the_people():
    table = table_of({(f"p{i}", affect): 2 for i in range(30) for affect in ("fear", "joy")})
    chosen = [people(table, split_rows(table, 0.2, by="identity", seed=seed).val) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_no_affect_leaves_the_training():
    cells = {(f"p{i}", affect): 2 for i in range(4) for affect in ("fear", "joy")} | {("p1", "contempt"): 2}
    table = table_of(cells)
    splits = [split_rows(table, 0.99, by="identity", seed=seed) for seed in range(20)]
    for split in splits:
        assert set(table.frame.loc[split.train, "affect"]) == {"contempt", "fear", "joy"}
        assert len(people(table, split.val)) == 3
    assert {name for split in splits for name in split.whole} == {"p1 (the last with contempt)"}


def test_one_person_or_nobody_to_spare():
    with pytest.raises(UserError, match=r"dataset\.split=identity: this data set has 1 identity"):
        split_rows(table_of({("a", "fear"): 5, ("a", "joy"): 5}), 0.2, by="identity")
    alone = table_of({("a", "fear"): 5, ("a", "joy"): 5, ("b", "anger"): 5, ("b", "neutral"): 5})
    with pytest.raises(UserError, match=r"no identity can be held out.*a \(the last with fear\)"):
        split_rows(alone, 0.2, by="identity")


def test_a_clip_stays_together_with_its_neutral_frames():
    rows = [
        (f"{take}/{n}.png", "a", "neutral" if n < 2 else affect, take, f"a/{take}")
        for take in range(1, 11)
        for affect in ["joy" if take < 6 else "fear"]
        for n in range(4)
    ]
    frame = pd.DataFrame(rows, columns=["path", "identity", "affect", "take", "clip"])
    table = FrameTable(frame, ("fear", "joy", "neutral"), ("a",), None)
    split = split_rows(table, 0.2, by="take")
    assert not set(frame.loc[split.train, "clip"]) & set(frame.loc[split.val, "clip"])
    assert per_cell(table, split.val) == {("a", "joy"): 2, ("a", "fear"): 2, ("a", "neutral"): 4}
    assert split.whole == ()
