"""A detector process for tests: answers like the real one, from the grey value at the middle of the picture.

Asked for several faces, it finds one in the box around every red patch. All `CRASH`, a picture ends it; all `HANG`, it
gives no answer, and all `ODD`, one without sense.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

CRASH, HANG, ODD = 251, 252, 253
_ARC = np.pi * np.arange(17) / 16
#: (68, 2) a plain face in a box from 0 to 1.
FACE = np.concatenate([
    np.column_stack([0.5 - 0.5 * np.cos(_ARC), 0.4 + 0.6 * np.sin(_ARC)]),
    np.column_stack([[*np.linspace(0.15, 0.4, 5), *np.linspace(0.6, 0.85, 5)], np.full(10, 0.3)]),
    np.column_stack([[0.5] * 4 + [0.42, 0.46, 0.5, 0.54, 0.58], [0.42, 0.48, 0.54, 0.6] + [0.63] * 5]),
    np.column_stack([[0.2, 0.25, 0.3, 0.35, 0.3, 0.25], [0.4, 0.38, 0.38, 0.4, 0.42, 0.42]]),
    np.column_stack([[0.65, 0.7, 0.75, 0.8, 0.75, 0.7], [0.4, 0.38, 0.38, 0.4, 0.42, 0.42]]),
    np.column_stack([0.5 + 0.15 * np.cos(np.linspace(np.pi, 3 * np.pi, 20)),
                     0.8 + 0.05 * np.sin(np.linspace(np.pi, 3 * np.pi, 20))]),
])  # fmt: skip

_SCRIPT = """
import json, os, sys, time
sys.path.insert(0, {root!r})
import cv2
import numpy as np

from tests.data.fake_detector import CRASH, FACE, HANG, ODD

LOG, MESH_TO_68 = {log!r}, {mesh!r}
print("native chatter, no JSON", flush=True)
print(json.dumps([1, 2]), flush=True)
print("W0000 gl_context.cc", file=sys.stderr, flush=True)
if {refuse!r}:
    sys.exit("ImportError: libGL.so.1")
print(json.dumps({{"ready": "fake"}}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    image = np.load(request["path"])
    if LOG:
        with open(LOG, "a") as file:
            file.write("asked\\n")
    print("more chatter", flush=True)
    if (image == CRASH).all():
        print("Segmentation fault", file=sys.stderr, flush=True)
        os._exit(139)
    if (image == HANG).all():
        time.sleep(60)
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
    if "most" in request:
        answer["points"], answer["faces"] = None, []
        red = np.all(abs(image.astype(int) - (255, 0, 0)) < 20, axis=2).astype(np.uint8)
        count, _, boxes, _ = cv2.connectedComponentsWithStats(red)
        for left, top, wide, high, area in boxes[1:]:
            if area > 50:
                mesh = np.zeros((478, 3))
                mesh[MESH_TO_68, :2] = (FACE * (wide, high) + (left, top)) / (width, height)
                answer["faces"].append(mesh.tolist())
                answer["points"] = answer["faces"][0]
    if (image == ODD).all():
        answer["points"] = [[0, 0, 0]]
    print(json.dumps({{"id": -5, "points": None}}), flush=True)
    print(json.dumps(answer), flush=True)
"""


def write_detector(path: Path, log: Path | None = None, refuse: bool = False) -> Path:
    """Write the script; a line for every picture asked for goes to `log`; `refuse` makes it end before it is ready."""
    from fexgan_lit.data.faces.geometry import MESH_TO_68  # not by the script, for which torch would take seconds

    root, mesh = str(Path(__file__).parents[2]), list(MESH_TO_68)
    path.write_text(_SCRIPT.format(log=str(log) if log else None, refuse=refuse, root=root, mesh=mesh))
    return path
