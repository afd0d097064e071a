"""The detector in a process of its own: run by the Python of the detector's environment, not by ours.

Says {"ready": "mediapipe ..."}, then reads one JSON object a line on stdin, {"id": 3, "path": "..."}, and answers one a
line on stdout, {"id": 3, "width": ..., "height": ..., "points": [[x, y, z], ...] or null} or {"id": 3, "error": "..."}.
A request with "most": 5 asks for up to five faces; they come as "faces": [points, ...] beside the first's "points".
Points are normalised: x and y from 0 to 1 over the picture, z in the unit of x. Imports nothing of fexgan_lit.
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
#: At 0.5, about one in 40 pictures of noise passes for a face; at 0.7 none of 200 did, and no real face was lost.
_CONFIDENCE = 0.7


def main() -> None:
    """Serve until stdin ends."""
    # the native libraries write to descriptor 1 when they please; answers go to a copy of it
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

    find(np.zeros((64, 64, 3), np.uint8), 1)  # loads the model, which takes longer than any picture
    _send(answers, {"ready": f"mediapipe {mediapipe.__version__}"})
    for line in sys.stdin:
        request = json.loads(line)
        _send(answers, {"id": request["id"], **_answer(request["path"], find, request.get("most", 1))})


def _send(stream: TextIO, message: dict) -> None:
    stream.write(json.dumps(message) + "\n")
    stream.flush()


def _answer(path: str, find: Callable[[np.ndarray, int], list[np.ndarray]], most: int = 1) -> dict:
    image = cv2.imread(path)  # a plain picture, which the one who asks has decoded
    if image is None:
        return {"error": "not an image, or damaged"}
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    height, width = image.shape[:2]
    for attempt, back in attempts(image):
        faces = [np.round(back(points), 6).tolist() for points in find(np.ascontiguousarray(attempt), most)]
        if faces:
            return {"width": width, "height": height, "points": faces[0], **({"faces": faces} if most > 1 else {})}
    return {"width": width, "height": height, "points": None}


def attempts(image: np.ndarray) -> Iterator[tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]]:
    """The picture, padded (a face that fills the frame is missed otherwise), then turned by quarters as well.

    Each comes with the way back: from points (P, 3) normalised over it to points normalised over `image`.
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
    """Points (P, 3) of a picture that np.rot90 turned `quarters` times, over the picture of width/height `aspect`."""
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
