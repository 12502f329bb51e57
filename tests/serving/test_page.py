"""The page in Chromium, as a person uses it: pictures in, answers out, an artist added, nothing from elsewhere."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.test_serve_artist import PACKAGES, gallery, served  # noqa: F401 (a fixture)

for package in PACKAGES:
    pytest.importorskip(package, reason="the packages of requirements-serve.txt are not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt install chromium)")
OPEN = """([selector, names]) => {
    const moved = new DataTransfer();
    for (const [name, text] of names) {
        moved.items.add(new File([Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0))], name));
    }
    const drop = new DragEvent("drop", {dataTransfer: moved, bubbles: true, cancelable: true});
    document.querySelector(selector).dispatchEvent(drop);
}"""


@pytest.fixture(scope="module")
def address(trained: Path, gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:  # noqa: F811
    with served(tmp_path_factory.mktemp("served"), "--checkpoint", trained, "--gallery", gallery,
                "--writable") as (_, port):
        yield f"http://localhost:{port}/"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Open the page in a context; at the end, nothing was asked of another host and the console has no error."""
    pages: list[Any] = []
    complaints: list[str] = []

    def opened(**context: Any) -> Any:
        page = browser.new_context(**context).new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if not request.url.startswith(
            (address, "blob:", "data:")) else None)
        page.goto(address)
        page.wait_for_selector("#artists li")
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.context.close()
    assert not complaints


def drop_path(page: Any, selector: str, path: Path) -> None:
    """Drop a file or folder as a file manager does, which a page's own code cannot."""
    page.locator(selector).scroll_into_view_if_needed()
    box = page.locator(selector).bounding_box()
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {
            "type": kind, "x": box["x"] + box["width"] / 2, "y": box["y"] + 20,
            "data": {"items": [], "files": [str(path)], "dragOperationsMask": 1}})
    session.detach()


def test_pictures_are_answered_and_saved(opened: Callable[..., Any], data_set: Path, tmp_path: Path) -> None:
    page = opened(locale="en")
    broken = tmp_path / "<img src=x onerror=alert(1)>.png"
    broken.write_bytes(b"no picture")
    pictures = sorted((data_set / "val").glob("*/*"))
    page.set_input_files("#files", [*map(str, pictures), str(broken)])
    page.wait_for_selector(f"#progress[value='{len(pictures) + 1}']", state="attached")
    assert page.inner_text("#told") == f"{len(pictures) + 1} of {len(pictures) + 1} pictures answered, 1 of them " \
                                       "could not be read."
    assert page.locator(".card").count() == len(pictures) + 1
    assert page.locator(".card").last.locator("h2").inner_text() == broken.name
    assert page.locator(".card .bad").inner_text() == "no picture in a known format"
    assert "artist_" in page.locator(".card").first.inner_text()
    with page.expect_download() as told:
        page.click("#save-json")
    records = json.loads(Path(told.value.path()).read_text(encoding="utf-8"))
    assert [record["name"] for record in records] == [*(path.name for path in pictures), broken.name]
    with page.expect_download() as told:
        page.click("#save-csv")
    lines = Path(told.value.path()).read_text(encoding="utf-8-sig").splitlines()
    assert lines[0] == "picture,verdict,artist,probability,share,nearest_picture,error"
    assert lines[-1].endswith("no picture in a known format")
    page.click("#clear")
    assert page.locator(".card").count() == 0


@pytest.mark.parametrize(("locale", "scheme", "button", "meaning"), [
    ("en", "light", "Map of artist_1 over the picture", "Red: speaks for artist_1 more"),
    ("zh-CN", "dark", "在图上显示 artist_1 的热图", "红色")])
def test_a_map_is_laid_over_the_picture_and_taken_away_by_keyboard(
        opened: Callable[..., Any], data_set: Path, locale: str, scheme: str, button: str, meaning: str) -> None:
    page = opened(locale=locale, color_scheme=scheme, viewport={"width": 390, "height": 800})
    page.set_input_files("#files", str(data_set / "val" / "artist_1" / "val_0.png"))
    page.wait_for_selector("#progress[value='1']", state="attached")
    card = page.locator(".card")
    pressed = card.get_by_role("button", name=button, exact=True)
    assert pressed.get_attribute("aria-pressed") == "false"
    pressed.focus()
    page.keyboard.press("Enter")
    shown = card.get_by_role("img", name=button)
    shown.wait_for()
    assert shown.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    assert pressed.get_attribute("aria-pressed") == "true"
    assert page.evaluate("document.activeElement.className") == "map"
    assert card.locator(".meaning").inner_text().startswith(meaning)
    assert "artist_1" in page.inner_text("#told")
    assert card.locator("img:visible").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.keyboard.press("Enter")
    shown.wait_for(state="hidden")
    assert pressed.get_attribute("aria-pressed") == "false"
    assert card.locator("img:visible").count() == 1


def test_an_artist_is_added_and_removed(opened: Callable[..., Any], data_set: Path) -> None:
    page = opened(locale="en")
    page.on("dialog", lambda dialog: dialog.accept())
    count = page.locator("#artists li").count()
    page.fill("#artist", "<b>Hokusai")
    picture = next((data_set / "val").glob("*/*"))
    page.evaluate(OPEN, ["#gallery", [["a.png", base64.b64encode(picture.read_bytes()).decode()]]])
    page.get_by_text("1 picture of <b>Hokusai added.").wait_for()
    assert page.locator("#artists li").count() == count + 1
    page.evaluate(OPEN, ["#drop", [["b.png", base64.b64encode(picture.read_bytes()).decode()]]])
    page.wait_for_selector("#progress[value='1']", state="attached")
    assert "<b>Hokusai · a.png" in page.locator(".card").inner_text()
    page.get_by_role("button", name="Remove <b>Hokusai").click()
    page.get_by_text("<b>Hokusai is removed.").wait_for()
    assert page.locator("#artists li").count() == count


def test_a_folder_is_dropped_and_a_picture_pasted(opened: Callable[..., Any], data_set: Path, tmp_path: Path) -> None:
    page = opened(locale="en", permissions=["clipboard-read", "clipboard-write"])
    pictures = sorted((data_set / "val").glob("*/*"))
    folder = tmp_path / "Folder"
    shutil.copytree(data_set / "val", folder / "inner")
    (folder / ".hidden").write_bytes(b"no picture")
    drop_path(page, "#drop", folder)
    page.wait_for_selector(f"#progress[value='{len(pictures)}']", state="attached")
    assert sorted(page.locator(".card h2").all_inner_texts()) == sorted(path.name for path in pictures)
    page.evaluate("""async (text) => navigator.clipboard.write([new ClipboardItem({"image/png":
        new Blob([Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0))], {type: "image/png"})})])""",
                  base64.b64encode(pictures[0].read_bytes()).decode())
    page.keyboard.press("Control+V")
    page.wait_for_selector(f"#progress[value='{len(pictures) + 1}']", state="attached")
    assert "artist_" in page.locator(".card").last.inner_text()
    page.on("dialog", lambda dialog: dialog.accept())
    drop_path(page, "#gallery", folder)  # without a typed name, the folder's is the artist's
    page.get_by_text(f"{len({path.name for path in pictures})} pictures of Folder added.").wait_for()
    page.get_by_role("button", name="Remove Folder").click()
    page.get_by_text("Folder is removed.").wait_for()


@pytest.mark.parametrize(("locale", "title"), [("zh-CN", "这是谁的画？"), ("en", "Whose hand is this?"),
                                               ("fr", "Whose hand is this?")])
def test_it_speaks_the_browsers_language_and_fits_a_phone(opened: Callable[..., Any], locale: str, title: str) -> None:
    page = opened(locale=locale, viewport={"width": 390, "height": 800}, color_scheme="dark")
    assert page.inner_text("h1") == page.title() == title
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator("[data-word]").evaluate_all("all => all.filter((each) => !each.textContent).length") == 0
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"  # the keyboard reaches what a mouse does
    page.goto(page.url + "api")
    page.get_by_text("POST /api/classify").wait_for()
