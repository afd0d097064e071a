"""A small pack in the cache, the same as chunks in a folder and in a store on the loopback address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fexgan_lit.data.datamodule import FrameData
from fexgan_lit.data.opening import open_dataset
from fexgan_lit.data.settings import DatasetConfig
from fexgan_lit.data.streaming.places import place_of
from fexgan_lit.data.streaming.settings import PackSettings
from fexgan_lit.data.streaming.write import Written, write_chunks

#: Million bytes of a chunk of 10 frames of 32 px.
CHUNK_MB = 10.5 * 32 * 32 * 3 / 1e6


@pytest.fixture
def config(write_cast, tmp_path: Path) -> DatasetConfig:
    """Options of a data set of 2 people, 7 affects, 10 frames each, 32 px."""
    root = write_cast("mhfed", count=10)
    return DatasetConfig(name="mhfed", root=str(root), image_size=32, batch_size=8, cache_dir=str(tmp_path / "cache"))


@pytest.fixture
def write() -> Callable[..., Written]:
    """Writes the pack of a configuration as chunks."""

    def write_to(config: DatasetConfig, to: str | Path, chunk_mb: float = CHUNK_MB) -> Written:
        return write_chunks(open_dataset(config), config, place_of(str(to)), PackSettings("litdata", str(to), chunk_mb))

    return write_to


def opened(config: DatasetConfig, seed: int = 0, **arguments) -> FrameData:
    """Data that are ready."""
    data = FrameData(config, seed, **arguments)
    data.setup()
    return data


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a store that speaks S3, on the loopback address."""
    moto = pytest.importorskip("moto.server")
    served = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    served.start()
    host, port = served.get_host_and_port()
    yield f"http://{host}:{port}"
    served.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket of that store; the variables lead there."""
    import boto3
    import requests

    for name, value in (
        ("AWS_ENDPOINT_URL", server), ("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"), ("AWS_EC2_METADATA_DISABLED", "true"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    requests.post(f"{server}/moto-api/reset", timeout=10)
    boto3.client("s3").create_bucket(Bucket="faces")
    return "s3://faces"
