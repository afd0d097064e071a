"""Streaming from a store: what is fetched when, what stays, and what happens when something is wrong with it."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fexgan_lit.data.datamodule import FrameDataModule
from fexgan_lit.data.frames import to_uint8
from fexgan_lit.data.pairs import Share
from fexgan_lit.data.streaming import chunks as chunks_module
from fexgan_lit.data.streaming.format import FACTS, TABLE, chunk_name
from fexgan_lit.data.streaming.storage import S3Store, store_of
from fexgan_lit.utils.errors import UserError

from .conftest import opened


@pytest.fixture
def fetched(monkeypatch):
    """Names of the files that are fetched whole, as it happens; and how many frames one by one."""
    calls: dict[str, list] = {"whole": [], "parts": []}
    fetch, part = S3Store.fetch, S3Store.read_part
    monkeypatch.setattr(S3Store, "fetch", lambda self, file, to: (calls["whole"].append(file), fetch(self, file, to)))
    monkeypatch.setattr(S3Store, "read_part", lambda *a: (calls["parts"].append(a[2]), part(*a))[1])
    return calls


def files_in(data) -> list[str]:
    return sorted(path.name for path in data.summary.pack.glob("chunk-*.bin"))


def idle(data) -> None:
    """Wait until nothing is fetched any more."""
    for _ in range(500):
        if not data.train.images.chunks._busy:
            return
        time.sleep(0.01)
    pytest.fail("still fetching")


def test_an_epoch_fetches_every_chunk_about_once_and_keeps_three_windows(streamed, fetched, config):
    data, mapped = opened(streamed), opened(config)
    loader = data.train_dataloader()
    assert data.train_dataloader().pair_sampler.windows == 7
    most = 0
    for number in range(len(loader)):
        batch = loader.batch(0, number)
        most = max(most, len(files_in(data)))
        shown = mapped.train.pixels(batch.source_row.numpy())
        assert (data.train.pixels(batch.source_row.numpy()) == shown).all()
    idle(data)
    assert set(fetched["whole"]) == {chunk_name(chunk) for chunk in range(14)}
    assert len(fetched["whole"]) <= 14 + 2  # the first window of the next epoch is on its way
    assert 4 <= most <= 7  # six, and the one that just arrives
    assert not fetched["parts"]


def test_the_next_window_is_fetched_while_this_one_is_used(streamed):
    data = opened(streamed)
    data.train_dataloader().batch(0, 0)
    idle(data)
    sampler = data.train_dataloader().pair_sampler
    first, second = (set(map(chunk_name, window.tolist())) for window in sampler.chunks(0)[:2])
    assert set(files_in(data)) == first | second


def test_validation_displaces_nothing_and_is_asked_for_once(streamed, fetched, config):
    data, mapped = opened(streamed), opened(config)
    data.train_dataloader().batch(0, 0)
    idle(data)
    before, whole = files_in(data), len(fetched["whole"])
    first = [batch.target for batch in data.val_dataloader()]
    asked = len(fetched["parts"])
    assert 0 < asked <= 28
    again = [batch.target for batch in data.val_dataloader()]
    assert len(fetched["parts"]) == asked
    assert (files_in(data), len(fetched["whole"])) == (before, whole)
    for one, other, third in zip(first, again, mapped.val_dataloader(), strict=True):
        assert (one == other).all()
        assert (one == third.target).all()


def test_a_resumed_run_finds_its_chunks_and_its_batches(streamed, fetched):
    data = opened(streamed)
    whole = [data.train_dataloader().batch(0, number).source_row for number in range(6)]
    idle(data)
    del fetched["whole"][:]
    again = opened(streamed).train_dataloader()
    again.first = lambda: 5
    assert (next(iter(again)).source_row == whole[5]).all()
    assert len(fetched["whole"]) <= 4


def test_two_processes_share_the_cache(streamed, fetched):
    one, other = (opened(replace(streamed, window_gb=4.0)) for _ in range(2))
    rows = np.arange(140)
    seen = []
    threads = [threading.Thread(target=lambda d=d: seen.append(d.everything().pixels(rows))) for d in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (seen[0] == seen[1]).all()
    assert sorted(fetched["whole"]) == sorted(chunk_name(chunk) for chunk in range(14))


def test_two_processes_in_step_keep_three_windows_and_hold_no_removed_files(streamed, config):
    shares = [FrameDataModule(streamed) for _ in range(2)]
    for rank, data in enumerate(shares):
        data.setup()
        data.share_batches(Share(rank, 2))
    mapped = opened(config)
    for number in range(14):
        parts = [data.train_dataloader().batch(0, number) for data in shares]
        whole = mapped.train.pixels(torch.cat([part.source_row for part in parts]).numpy())
        assert (to_uint8(torch.cat([part.source for part in parts])) == whole).all()
    for data in shares:
        idle(data)
        assert len(data.train.images.chunks._maps._maps) <= 7
    assert len(files_in(shares[0])) <= 7


def test_what_a_killed_process_left_is_removed(streamed):
    folder = opened(streamed).summary.pack
    old, new = folder / "chunk-0-1.bin.77", folder / "chunk-0-2.bin.78"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    opened(streamed)
    assert not old.exists()
    assert new.exists()


def test_a_chunk_that_disappears_from_the_cache_is_fetched_again(streamed):
    data = opened(replace(streamed, window_gb=4.0))
    rows = np.arange(140)
    before = data.everything().pixels(rows)
    again = opened(replace(streamed, window_gb=4.0))
    for path in data.summary.pack.glob("chunk-0-1*.bin"):
        path.unlink()
    (data.summary.pack / chunk_name(2)).write_bytes(b"cut")
    assert (again.everything().pixels(rows) == before).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing"),
        (b"short", "differs from what was written"),
        (bytes(30_780), "differs from what was written"),
    ],
)
def test_a_broken_chunk_is_named(spoilt, content, message):
    place = store_of(spoilt.root)
    chunk = int(opened(spoilt).train_dataloader().pair_sampler.chunks(0)[0][0])
    place.remove(chunk_name(chunk))
    if content is not None:
        place.write(chunk_name(chunk), content)
    with pytest.raises(UserError, match=rf"/{chunk_name(chunk)}, a chunk of the pack, {message}.*new place"):
        opened(spoilt).train_dataloader().batch(0, 0)


def test_a_store_that_fails_for_a_moment_is_asked_again(streamed, monkeypatch):
    monkeypatch.setattr(chunks_module, "_PAUSES_S", (0.01, 0.01))
    fetch, failures = S3Store.fetch, [1, 1]

    def fetch_in_the_end(self, file, to):
        if failures:
            failures.pop()
            raise UserError("the store cannot be reached")
        fetch(self, file, to)

    monkeypatch.setattr(S3Store, "fetch", fetch_in_the_end)
    assert len(opened(streamed).train_dataloader().batch(0, 0)) == 8
    failures[:] = [1] * 1000
    with pytest.raises(UserError, match="cannot be reached"):
        opened(streamed).train_dataloader().batch(0, 6)


def test_a_full_disk_is_said_before_and_during(streamed, monkeypatch):
    data = opened(streamed)

    def full(self, file, to: Path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(S3Store, "fetch", full)
    with pytest.raises(UserError, match=r"No space left on device.*free space.*dataset\.window_gb"):
        data.train_dataloader().batch(0, 0)
    monkeypatch.setattr(chunks_module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(UserError, match=r"has 0\.00 GB free.*dataset\.cache_dir"):
        opened(streamed)


def test_no_such_bucket_no_pack_and_other_tables(spoilt, bucket):
    with pytest.raises(UserError, match="no bucket 'nobody' at http://127"):
        opened(replace(spoilt, root="s3://nobody/set"))
    with pytest.raises(UserError, match=r"there is no pack; found nothing.*pack\.format=litdata pack\.to=s3://faces/x"):
        opened(replace(spoilt, root=f"{bucket}/x"))
    with pytest.raises(UserError, match=r"found \w+/.* and no pack\.json"):
        opened(replace(spoilt, root=bucket))
    store_of(spoilt.root).write(TABLE, b"another")
    with pytest.raises(UserError, match=r"table\.parquet does not match the pack"):
        opened(spoilt)
    store_of(spoilt.root).write(FACTS, b'{"frames": 3}')
    with pytest.raises(UserError, match="does not describe a chunked pack"):
        opened(spoilt)


def test_a_store_out_of_reach_or_without_credentials_is_said_within_seconds(streamed, monkeypatch):
    started = time.monotonic()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"cannot be reached at http://127\.0\.0\.1:9.*AWS_ENDPOINT_URL"):
        opened(streamed)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    with pytest.raises(UserError, match="no credentials for the store; set AWS_ACCESS_KEY_ID"):
        opened(streamed)
    assert time.monotonic() - started < 30


def test_other_urls_are_refused(streamed):
    for root in ("gs://faces/set", "https://example.org/set", "s3://"):
        with pytest.raises(UserError, match="expected a folder or s3://bucket/prefix"):
            opened(replace(streamed, root=root))
