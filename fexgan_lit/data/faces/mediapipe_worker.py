"""The detector's process; it runs with the Python of the detector's environment and imports nothing of fexgan_lit.

It prints {"ready": "mediapipe ..."}, then reads one JSON object per line on stdin, {"id": 3, "path": "..."}, and
answers with one line on stdout, {"id": 3, "width": ..., "height": ..., "points": [[x, y, z], ...] or null} or
{"id": 3, "error": "..."}. The path is that of an array in NumPy's format, (H, W, 3) uint8 RGB: the caller decodes
images. A request with "most": 5 asks for up to five faces; they are in "faces": [points, ...], the first also in
"points". Points are normalised: x and y from 0 to 1 over the image, z in the unit of x.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

import cv2
import numpy as np

_PAD = 0.25
#: At 0.5, about one in 40 images of noise passes for a face; at 0.7 none of 200 did, and no real face was lost.
_CONFIDENCE = 0.7


def main() -> None:
    """Serve until stdin ends."""
    # the native libraries may write to descriptor 1 at any time; answers go to a copy of it
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import mediapipe

    finders = {}

    def find(image: np.ndarray, most: int) -> list[np.ndarray]:
        if most not in finders:
            finders[most] = mediapipe.solutions.face_mesh.FaceMesh(
                static_image_mode=True, max_num_faces=most, refine_landmarks=True, min_detection_confidence=_CONFIDENCE
            )
        found = finders[most].process(image).multi_face_landmarks
        return [np.array([(p.x, p.y, p.z) for p in face.landmark]) for face in found or ()]

    find(np.zeros((64, 64, 3), np.uint8), 1)  # loads the model, which takes longer than any image
    _send(answers, {"ready": f"mediapipe {mediapipe.__version__}"})
    for line in sys.stdin:
        request = json.loads(line)
        _send(answers, {"id": request["id"], **_answer(request["path"], find, request.get("most", 1))})


def _send(stream: TextIO, message: dict) -> None:
    stream.write(json.dumps(message) + "\n")
    stream.flush()


def _answer(path: str, find: Callable[[np.ndarray, int], list[np.ndarray]], most: int = 1) -> dict:
    try:
        image = np.load(path)
    except (OSError, ValueError) as error:
        return {"error": str(error)}
    height, width = image.shape[:2]
    for attempt, back in attempts(image):
        faces = [np.round(back(points), 6).tolist() for points in find(np.ascontiguousarray(attempt), most)]
        if faces:
            return {"width": width, "height": height, "points": faces[0], **({"faces": faces} if most > 1 else {})}
    return {"width": width, "height": height, "points": None}


def attempts(image: np.ndarray) -> Iterator[tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]]:
    """Yield the image, padded (a face that fills the image is missed otherwise), then also rotated by quarter turns.

    Each image comes with a function that maps points (P, 3) normalised over it to points normalised over `image`.
    """
    yield image, lambda points: points
    height, width = image.shape[:2]
    rows, columns = round(_PAD * height), round(_PAD * width)
    padded = cv2.copyMakeBorder(image, rows, rows, columns, columns, cv2.BORDER_REPLICATE)
    share = np.array([1 + 2 * columns / width, 1 + 2 * rows / height, 1 + 2 * columns / width])
    offset = np.array([columns / width, rows / height, 0.0])
    for quarters in (0, 1, 3, 2):

        def back(points: np.ndarray, quarters: int = quarters) -> np.ndarray:
            upright = turn_back(points, quarters, padded.shape[1] / padded.shape[0])
            return upright * share - offset

        yield np.rot90(padded, quarters), back


def turn_back(points: np.ndarray, quarters: int, aspect: float) -> np.ndarray:
    """Undo `quarters` turns of np.rot90 on normalised points (P, 3); `aspect` is width/height of the upright image."""
    x, y, z = points.T
    if quarters == 1:
        return np.stack([1 - y, x, z / aspect], axis=1)
    if quarters == 2:
        return np.stack([1 - x, 1 - y, z], axis=1)
    if quarters == 3:
        return np.stack([y, 1 - x, z / aspect], axis=1)
    return points


if __name__ == "__main__":
    main()
