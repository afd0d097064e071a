"""What the page may ask for, and what is refused."""

from __future__ import annotations

import pytest

from fexgan_lit.inference.app.requests import FaceRequest, read_asked
from fexgan_lit.inference.app.session import FaceName, uploads
from fexgan_lit.utils.errors import UserError
from tests.conftest import AFFECTS


def test_weights_and_units_by_name():
    tree = {"weights": {"joy": 1.5, "fear": 0}, "units": {"12": 0.5}}
    assert read_asked(tree, AFFECTS) == FaceRequest({"joy": 1.5, "fear": 0.0}, {12: 0.5})
    assert read_asked({}, AFFECTS) == FaceRequest()


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([], "expected an object"),
        ({"weights": [1]}, "expected an object of at most 64"),
        ({"weights": {"glee": 1}}, "'glee' is not an affect here; expected some of anger"),
        ({"weights": {"joy": 1.51}}, "joy is 1.51; expected 0 to 1.5"),
        ({"weights": {"joy": -0.1}}, "expected 0 to 1.5"),
        ({"weights": {"joy": float("nan")}}, "expected a number"),
        ({"weights": {"joy": "1"}}, "expected a number"),
        ({"weights": {"joy": True}}, "expected a number"),
        ({"units": {"3": 1}}, "'3' is not an action unit"),
        ({"units": {"12": 1.2}}, "AU12 is 1.2; expected 0 to 1"),
        ({"units": {"²": 1}}, "is not an action unit"),
    ],
)
def test_what_is_refused(tree, message):
    with pytest.raises(UserError, match=message):
        read_asked(tree, AFFECTS)


def test_names_of_faces():
    assert FaceName.read("cast:nora:2") == FaceName("cast", "nora:2")
    assert FaceName.read("random:12").seed == 12
    for text in ("", "cast:", "nora", "random:x", "random:-1", f"random:{2**31}", "file:/etc/passwd"):
        with pytest.raises(UserError, match="expected cast:NAME"):
            FaceName.read(text)


def test_the_oldest_upload_gives_way():
    kept = uploads()
    keys = [kept.add(number) for number in range(kept.most)]
    assert len(set(keys)) == kept.most
    assert kept.get(keys[0]) == 0  # is now the last one used
    kept.add(99)
    assert kept.get(keys[0]) == 0
    with pytest.raises(UserError, match="The picture is gone"):
        kept.get(keys[1])
