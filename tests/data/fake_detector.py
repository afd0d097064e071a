"""A detector process for tests: answers like the real one, from the grey value at the middle of the picture."""

from __future__ import annotations

from pathlib import Path

_SCRIPT = """
import json, os, sys, time
import cv2
import numpy as np

LOG = {log!r}
print("native chatter, no JSON", flush=True)
print(json.dumps([1, 2]), flush=True)
print("W0000 gl_context.cc", file=sys.stderr, flush=True)
if {refuse!r}:
    sys.exit("ImportError: libGL.so.1")
print(json.dumps({{"ready": "fake"}}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    name = os.path.basename(request["path"])
    if LOG:
        with open(LOG, "a") as file:
            file.write(name + "\\n")
    print("more chatter", flush=True)
    if "crash" in name:
        print("Segmentation fault", file=sys.stderr, flush=True)
        os._exit(139)
    if "hang" in name:
        time.sleep(60)
    image = cv2.imread(request["path"])
    if image is None:
        print(json.dumps({{"id": request["id"], "error": "not an image, or damaged"}}), flush=True)
        continue
    height, width = image.shape[:2]
    answer = {{"id": request["id"], "width": width, "height": height, "points": None}}
    grey = float(image[height // 2, width // 2, 0])
    if grey > 3:
        # every vertex at the upper left corner of 20 pixels but the chin, an eye's corner and the end of the jaw
        mesh = np.zeros((478, 3))
        mesh[:, 0], mesh[:, 1] = grey / 10 / width, 30 / height
        mesh[[454, 152], 0], mesh[[454, 152], 1] = (grey / 10 + 20) / width, 50 / height
        mesh[[263, 356], 0] += 20 / width
        answer["points"] = mesh.tolist()
    if "odd" in name:
        answer["points"] = [[0, 0, 0]]
    print(json.dumps({{"id": -5, "points": None}}), flush=True)
    print(json.dumps(answer), flush=True)
"""


def write_detector(path: Path, log: Path | None = None, refuse: bool = False) -> Path:
    """Write the script; names of pictures asked for go to `log`; `refuse` makes it end before it is ready."""
    path.write_text(_SCRIPT.format(log=str(log) if log else None, refuse=refuse))
    return path
