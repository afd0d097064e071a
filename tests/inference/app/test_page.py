"""The page in a real browser."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image

from fexgan_lit.inference.app.config import ExploreSettings
from fexgan_lit.inference.app.server import free_port, start
from fexgan_lit.inference.app.session import Session
from tests.inference.app.pictures import bomb, encoded, halves

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("library") / "expressions.yaml"


@pytest.fixture(scope="module")
def address(app_model, folder, library) -> Iterator[str]:
    """Two systems side by side, one that draws characters and one that reads action units."""
    settings = ExploreSettings(port=0)
    session = Session([app_model("fexgan"), app_model("ganimation")], folder, library)
    server = start(session, settings, free_port(settings))
    yield server.local_url
    server.close(verbose=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


class Visit:
    """A page, what it asked others for, and what it complained of."""

    def __init__(self, browser, address: str, query: str = "", **context) -> None:
        self.context = browser.new_context(accept_downloads=True, **context)
        self.page, self.asked, self.said = self.context.new_page(), [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.goto(address + query)
        self.page.wait_for_selector("body.ready")
        self.settle()

    def settle(self) -> None:
        """Wait until every question is answered."""
        self.page.wait_for_selector("main[aria-busy=false]")

    def face(self, system: int = 0) -> str:
        return self.page.locator("img.face").nth(system).get_attribute("src")

    def slide(self, name: str, value: float) -> None:
        self.page.locator(f"[id='{name}']").evaluate(
            "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})); }",
            value,
        )
        self.settle()

    def value(self, name: str) -> float:
        return float(self.page.locator(f"[id='{name}']").input_value())

    def download(self, click: str) -> bytes:
        with self.page.expect_download() as coming:
            self.page.click(click)
        return Path(coming.value.path()).read_bytes()

    def query(self) -> dict[str, list[str]]:
        self.page.wait_for_timeout(300)
        return parse_qs(urlsplit(self.page.url).query)


@pytest.fixture
def visit(browser, address) -> Iterator[Callable[..., Visit]]:
    made: list[Visit] = []

    def open_page(query: str = "", **context) -> Visit:
        made.append(Visit(browser, address, query, **context))
        return made[-1]

    yield open_page
    for one in made:
        one.context.close()


def test_it_opens_and_asks_nobody_else(visit, address):
    page = visit()
    assert page.face().startswith("data:image/")
    assert page.page.locator("#cast .thumb").count() == 2
    assert page.page.locator("#presets .chip").count() == 10
    assert page.value("affect-neutral") == 1
    outside = [url for url in page.asked if not url.startswith((address, "data:", "blob:"))]
    assert outside == []
    assert page.said == []


def test_a_slider_changes_both_pictures(visit, app_model):
    page = visit()
    before = page.face(0), page.face(1)
    page.slide("affect-joy", 0.7)
    assert page.value("affect-neutral") == pytest.approx(0.3)
    assert page.face(0) != before[0]
    assert page.face(1) != before[1]
    assert page.page.locator("#wish").inner_text() == "joy 0.7 · neutral 0.3"
    page.slide("affect-joy", 1.3)
    assert page.page.locator("#beyond").is_visible()
    assert "beyond training" in page.page.locator("#affect-joy").get_attribute("aria-valuetext")
    # units beyond training are named
    largest = app_model("ganimation").loaded.largest_units
    unit = min(largest, key=largest.get)
    page.page.click("#reset")
    page.settle()
    assert page.page.locator("#units-beyond").inner_text() == ""
    page.slide(f"unit-{unit}", min(1, largest[unit] + 0.1))
    assert page.page.locator("#units-beyond").inner_text() == f"AU{unit} was at most {largest[unit]:.2f} in training."
    page.slide(f"unit-{unit}", max(0, largest[unit] - 0.05))
    assert page.page.locator("#units-beyond").inner_text() == ""


def test_what_the_networks_see_follows_the_picture_which_is_saved_as_it_is(visit, app_model):
    page = visit("?w=joy:1")
    saved = Image.open(io.BytesIO(page.download("#save")))
    loaded = app_model("fexgan").loaded
    assert np.array_equal(np.asarray(saved), np.asarray(loaded.synthesize(loaded.faces["nora"], "joy")))
    readings = page.page.locator("#readings")
    page.page.locator(".reading.asked", has_text="joy").first.wait_for()
    assert "real to the discriminator" in readings.inner_text()
    assert "Action units that the critic reads" in readings.inner_text()
    assert "No judge of this run's data is in the cache" in readings.inner_text()
    page.page.keyboard.press("1")
    page.page.locator(".reading.asked", has_text="anger").first.wait_for()


def test_presets_by_mouse_and_keyboard(visit):
    page = visit()
    page.page.click("text=anger + sadness")
    page.settle()
    assert (page.value("affect-anger"), page.value("affect-sadness"), page.value("affect-neutral")) == (1, 1, 0)
    asked = page.face()
    page.page.keyboard.press("4")
    page.settle()
    assert page.page.locator("[data-preset=joy]").get_attribute("aria-pressed") == "true"
    assert page.face() != asked
    page.page.keyboard.press("]")
    page.settle()
    assert page.page.locator("[data-face='cast:tariq']").get_attribute("aria-checked") == "true"
    page.page.locator("#affect-joy").focus()
    page.page.keyboard.press("ArrowLeft")
    assert page.value("affect-joy") == pytest.approx(0.99)


def test_units_follow_the_affects_until_they_are_set_and_neutral_comes_first(visit):
    page = visit("?w=joy:1")
    followed = page.value("unit-12")
    before = page.face(0), page.face(1)
    page.slide("unit-45", 1)
    assert page.face(0) == before[0]  # reads affects alone
    assert page.face(1) != before[1]
    assert page.value("unit-12") == followed
    page.page.click("#release")
    page.settle()
    assert page.face(1) == before[1]
    page.page.check("#neutral-first")  # the system that reads units brings the face to rest first
    page.settle()
    assert page.face(0) == before[0]
    assert page.face(1) != before[1]
    assert page.query()["neutral"] == ["1"]


def test_expressions_are_saved_and_chosen_by_name(visit, library):
    page = visit("?w=joy:0.7,neutral:0.3&u=45:0.5")
    page.page.once("dialog", lambda dialog: dialog.accept("wink"))
    page.page.click("#save-expression")
    chip = page.page.locator("#named .chip", has_text="wink")
    chip.wait_for()
    assert "wink" in library.read_text()
    before = page.face(1)
    page.page.click("#reset")
    page.settle()
    assert page.face(1) != before
    chip.click()
    page.settle()
    assert (page.value("affect-joy"), page.value("unit-45")) == (0.7, 0.5)
    assert page.face(1) == before
    again = visit()
    assert again.page.locator("#named .chip").all_inner_texts() == ["wink"]


def test_the_map_and_its_dot(visit):
    page = visit()
    pad = page.page.locator("#pad")
    assert "data:image/jpeg" in pad.evaluate("pad => pad.style.backgroundImage")
    box = pad.bounding_box()
    pad.click(position={"x": box["width"] * 0.9, "y": box["height"] * 0.9})  # the last tile of the lowest row
    page.settle()
    assert (page.value("affect-joy"), page.value("affect-anger")) == (1, 0)
    pad.focus()
    page.page.keyboard.press("Shift+ArrowUp")
    page.settle()
    assert page.value("affect-anger") == 0.25
    face = page.face()
    page.page.check("#follow")
    pad.hover(position={"x": box["width"] * 0.1, "y": box["height"] * 0.1})
    page.settle()
    assert (page.value("affect-joy"), page.value("affect-anger")) == (0, 1)
    assert page.face() != face


def test_bad_uploads_are_refused_and_good_ones_taken(visit, folder, tmp_path):
    page = visit()
    before = page.face()
    (tmp_path / "huge.png").write_bytes(encoded(halves()) + bytes(21 << 20))
    for name, data, reason in (
        ("text.png", b"this is text", "not a PNG"),
        ("bomb.png", bomb(), "more than the 40 megapixels allowed"),
        ("huge.png", None, "expected at most 20 MiB"),
    ):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        page.page.set_input_files("#file", tmp_path / name)
        page.page.locator(".toast", has_text=reason).wait_for()
        assert page.face() == before
        assert page.page.locator("#cast .thumb").count() == 2
    (tmp_path / "photo.txt").write_bytes(encoded(halves(), "JPEG"))  # the name says nothing
    page.page.set_input_files("#file", tmp_path / "photo.txt")
    page.page.locator("#cast .thumb").nth(2).wait_for()
    page.settle()
    assert page.face() != before
    assert not [path for path in folder.rglob("*") if path.is_file()]


def test_a_box_drawn_on_a_photograph_is_pasted_back(visit, tmp_path):
    grey = np.full((200, 300, 3), 120, np.uint8)
    Image.fromarray(grey).save(tmp_path / "photo.png")
    page = visit("?w=joy:1")
    page.page.set_input_files("#file", tmp_path / "photo.png")
    page.page.locator("#face-note", has_text="No face detector is installed").wait_for()
    page.settle()
    page.page.click("#draw-box")
    area = page.page.locator("#crop-area")
    frame = area.bounding_box()
    corners = [(frame["x"] + frame["width"] * x, frame["y"] + frame["height"] * y) for x, y in ((0.1, 0.2), (0.4, 0.7))]
    page.page.mouse.move(*corners[0])
    page.page.mouse.down()
    page.page.mouse.move(*corners[1], steps=3)
    page.page.mouse.up()
    page.page.click("#crop button[value=use]")
    page.page.locator("#cast .thumb").nth(3).wait_for()
    page.settle()
    assert "No face detector" not in page.page.locator("#face-note").inner_text()
    found = np.asarray(Image.open(io.BytesIO(page.download("#save-photo")))).astype(int)
    assert found.shape == grey.shape
    changed = np.argwhere(np.abs(found - grey).max(2) > 3)[:, ::-1]  # x, y
    assert len(changed)
    assert (changed >= (20, 25)).all()
    assert (changed <= (130, 165)).all()
    page.page.keyboard.press("[")
    page.page.keyboard.press("[")
    assert page.page.locator("#photo-tools").is_hidden()
    assert page.said == []


def test_random_characters_and_comparing(visit):
    page = visit()
    page.page.click("#random")
    page.page.locator("#cast .thumb").nth(5).wait_for()
    page.settle()
    assert page.query()["face"][0].startswith("random:")
    made = page.face()
    page.page.keyboard.down("c")
    page.page.locator("body.comparing").wait_for()
    page.settle()
    page.page.keyboard.up("c")
    assert page.face() == made


def test_the_link_restores_what_is_shown(visit):
    page = visit()
    page.page.keyboard.press("]")
    page.slide("affect-fear", 0.45)
    page.slide("unit-26", 0.8)
    page.page.select_option("#map-x", "surprise")
    page.page.click("#example")
    page.settle()
    query = page.query()
    assert query["face"] == ["cast:tariq"]
    again = visit("?" + urlsplit(page.page.url).query)
    assert (again.value("affect-fear"), again.value("unit-26")) == (0.45, 0.8)
    assert again.page.locator("#map-x").input_value() == "surprise"
    assert again.page.locator("#track .key").count() == 4
    assert (again.face(0), again.face(1)) == (page.face(0), page.face(1))
    odd = visit("?face=cast:zoe&w=glee:1,joy:9,fear:x&u=99:1&keys=a|b&film=x,y,z")
    assert odd.value("affect-joy") == 1.5
    assert "another face is shown" in odd.page.locator(".toast").first.inner_text()
    assert odd.said == []


def test_a_film_is_played_and_exported(visit, folder):
    page = visit("?film=1,4,linear&keys=0|neutral:1|;1|joy:1|")
    still = page.face()
    page.page.click("#play")
    page.page.locator("body.playing").wait_for()
    page.page.keyboard.press("Escape")
    page.page.click("#play")
    assert page.face() == still
    gif = Image.open(io.BytesIO(page.download("[data-format=gif]")))
    assert (gif.size, gif.n_frames) == ((512, 256), 5)
    assert page.download("[data-format=mp4]")[4:8] == b"ftyp"
    with zipfile.ZipFile(io.BytesIO(page.download("[data-format=png]"))) as frames:
        assert len(frames.namelist()) == 12
    page.page.locator("#track .key").nth(1).click()
    page.slide("affect-anger", 0.5)
    assert "anger:0.5" in page.query()["keys"][0]
    page.page.keyboard.press("k")
    page.page.locator("#track .key").nth(2).wait_for()
    page.page.locator("#track .key").nth(2).press("Delete")
    assert page.page.locator("#track .key").count() == 2
    assert not [path for path in folder.rglob("*") if path.is_file()]


def test_no_page_is_wider_than_the_screen_and_it_is_light_or_dark(visit):
    page = visit().page
    wide = "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
    for width in (820, 390, 320):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, page.evaluate(
            f"{wide}.map(e => e.outerHTML.slice(0, 80))"
        )
        assert page.locator("#affect-joy").bounding_box()["width"] > 60
    colours = []
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert colours[0] != colours[1]
    page.keyboard.press("t")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == colours[0]
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
