"""A small pack in the cache, the same as chunks in a folder and in a store on the loopback address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datamodule import FrameDataModule
from fexgan_lit.data.open import open_dataset
from fexgan_lit.data.streaming.config import PackSettings
from fexgan_lit.data.streaming.storage import store_of
from fexgan_lit.data.streaming.writer import Written, write_chunks
from fexgan_lit.expression import AFFECTS
from tests.data.conftest import FORMS, picture

#: Million bytes of a chunk of 10 frames of 32 px.
CHUNK_MB = 10.5 * 32 * 32 * 3 / 1e6


def write(config: DatasetConfig, to: str | Path, chunk_mb: float = CHUNK_MB) -> Written:
    """The pack of `config` as chunks at `to`."""
    return write_chunks(open_dataset(config), config, store_of(str(to)), PackSettings("litdata", str(to), chunk_mb))


def opened(config: DatasetConfig, seed: int = 0) -> FrameDataModule:
    """Data that are ready."""
    data = FrameDataModule(config, seed)
    data.setup()
    return data


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> DatasetConfig:
    """Options of a data set of 2 people, 7 affects, 10 frames each, 32 px; its pack is in a cache of its own."""
    folder = tmp_path_factory.mktemp("streaming")
    cells = [(identity, affect) for identity in ("anna", "bob") for affect in AFFECTS]
    for number in range(140):
        identity, affect = cells[number // 10]
        path = folder / "set" / FORMS["mhfed"].format(identity=identity, affect=affect, n=number % 10)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", picture(number))[1].tobytes())
    places = {"root": str(folder / "set"), "cache_dir": str(folder / "cache")}
    return DatasetConfig(name="mhfed", image_size=32, batch_size=8, **places)


@pytest.fixture(scope="session")
def folder(config: DatasetConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pack in 14 chunks; only to be read."""
    place = tmp_path_factory.mktemp("place") / "chunks"
    write(config, place)
    return place


@pytest.fixture(scope="session")
def server() -> Iterator[dict[str, str]]:
    """The variables for a store that speaks S3 on the loopback address, with an empty bucket `faces`."""
    moto = pytest.importorskip("moto.server")
    import boto3

    served = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    served.start()
    host, port = served.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="faces")
    yield variables
    served.stop()


@pytest.fixture
def bucket(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """That bucket; the variables of the test lead there."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    return "s3://faces"


@pytest.fixture
def copy_to_store(folder: Path, bucket: str) -> Callable[[str], str]:
    """Puts the chunks of `folder` under a prefix of the bucket, once; returns its URL."""

    def copy(prefix: str) -> str:
        place = store_of(f"{bucket}/{prefix}")
        if place.first() is None:
            for path in folder.iterdir():
                place.write(path.name, path.read_bytes())
        return place.name

    return copy


@pytest.fixture
def streamed(config: DatasetConfig, copy_to_store: Callable[[str], str], tmp_path: Path) -> DatasetConfig:
    """Options that stream 14 chunks of a store, only to be read, in 7 windows, with an empty cache."""
    return replace(
        config, root=copy_to_store("shared"), window_gb=2.1 * CHUNK_MB / 1e3, cache_dir=str(tmp_path / "cache")
    )


@pytest.fixture
def spoilt(streamed: DatasetConfig, copy_to_store: Callable[[str], str], tmp_path: Path) -> DatasetConfig:
    """The same with a copy in the store that may be broken."""
    return replace(streamed, root=copy_to_store(tmp_path.name))
