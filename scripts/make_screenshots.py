"""Draw the pictures of docs/app.md, docs/report.md and docs/how-to/teach.md from photos that other
packages carry, in a real browser.

    python scripts/make_screenshots.py [CHROMIUM]

Needs the extras `app`, `demo` and `dev`.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

TARGET = Path(__file__).resolve().parents[1] / "docs" / "images"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
PORT = 7990
TEACH_PORT = 7991
TILE = 100  # pixels


def cut(folder: Path) -> None:
    """Cut three textures of scikit-image into squares, every other one to train on."""
    import skimage

    for name in ("brick", "grass", "gravel"):
        whole = Image.open(Path(skimage.__file__).parent / "data" / f"{name}.png").convert("RGB")
        tiles = [
            (x, y)
            for x in range(0, whole.width - TILE + 1, TILE)
            for y in range(0, whole.height - TILE + 1, TILE)
        ]
        for number, (x, y) in enumerate(tiles):
            target = folder / ("train" if number % 2 else "test") / name
            target.mkdir(parents=True, exist_ok=True)
            whole.crop((x, y, x + TILE, y + TILE)).resize((320, 320)).save(
                target / f"{number:02d}.jpg", quality=92
            )
    for number in (4, 8):  # mistakes of a person, to be found
        shutil.move(
            folder / "test" / "grass" / f"{number:02d}.jpg",
            folder / "test" / "gravel" / f"grass-{number}.jpg",
        )


def save(shot: bytes, name: str) -> None:
    """Write a screenshot with few colours, so that it stays small."""
    image = Image.open(io.BytesIO(shot)).convert("RGB")
    image.quantize(160, dither=Image.Dither.FLOYDSTEINBERG).save(
        TARGET / f"{name}.png", optimize=True
    )


def roll(folder: Path) -> Path:
    """Cut the three textures into one folder of photos, in an order that tells nothing."""
    cut(folder)
    tiles = sorted(folder.glob("*/*/*.jpg"), key=lambda path: (path.stem[-2:], path.parent.name))
    (folder / "photos").mkdir()
    for number, tile in enumerate(tiles):
        shutil.copy(tile, folder / "photos" / f"IMG_{2001 + 7 * number}.jpg")
    return folder / "photos"


def teach(browser, folder: Path) -> None:
    """Draw the first examples and the check of a session on gravel."""
    photos = roll(folder)
    gravel = {
        path.read_bytes() for path in folder.glob("*/gravel/*.jpg") if "grass" not in path.name
    }
    shown = {path.name for path in photos.iterdir() if path.read_bytes() in gravel}
    command = [sys.executable, "-m", "wordsight", "teach", "-c", "gravel", "-p", str(photos)]
    command += ["--port", str(TEACH_PORT)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        while "Open" not in (line := server.stderr.readline()):
            pass
        page = browser.new_page(viewport={"width": 1100, "height": 760})
        page.goto(next(word for word in line.split() if word.startswith("http")).rstrip("."))
        page.wait_for_selector("#tiles button")
        for tile in page.locator("#tiles button").all():
            if tile.get_attribute("data-name") in shown:
                tile.click()
        page.wait_for_timeout(1000)
        page.evaluate("window.scrollTo(0, 0)")
        save(page.screenshot(), "teach-first")
        page.locator("#bar button").click()
        page.wait_for_selector("#one:not([hidden]) #photo:not([hidden])")
        while not page.locator("#why").inner_text().startswith("Check"):
            name = page.get_attribute("#photo", "data-name")
            sentence = page.locator("#sentence").inner_text()
            page.keyboard.press("1" if name in shown else " ")
            page.wait_for_function(
                "before => document.getElementById('sentence').innerText !== before", arg=sentence
            )
        page.wait_for_timeout(1000)
        save(page.screenshot(), "teach-check")
        page.close()
        server.send_signal(signal.SIGINT)


def reports(browser, folder: Path) -> None:
    """Draw the report of the demo and that of the evaluation."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto((folder / "demo" / "results" / "report.html").as_uri())
    page.locator("#labelled .picture").first.hover()
    page.evaluate("window.scrollTo(0, 0)")
    save(page.screenshot(), "report-run")
    page.set_viewport_size({"width": 1280, "height": 1000})
    page.goto((folder / "report" / "report.html").as_uri())
    page.locator(".gallery li button").first.focus()
    page.evaluate("window.scrollTo(0, 0)")
    save(page.screenshot(), "report-evaluate")
    page.close()


def main(chromium: str) -> None:
    """Make everything."""
    from playwright.sync_api import sync_playwright

    import wordsight

    folder = Path(tempfile.mkdtemp())
    os.environ["WORDSIGHT_HOME"] = str(folder / "home")
    cut(folder)
    model = wordsight.train(folder / "train", folder / "home" / "models" / "walls")
    wordsight.train(folder / "train", folder / "home" / "models" / "brick or not", positive="brick")
    subprocess.run([sys.executable, "-m", "wordsight", "demo", "-o", folder / "demo"], check=True)
    wordsight.evaluate(folder / "test", model, output=folder / "report", threshold=0.9)
    serve = [
        sys.executable,
        "-m",
        "wordsight",
        "app",
        "-m",
        folder / "home" / "models" / "walls",
        "--data",
        folder / "test",
        "--port",
        str(PORT),
    ]
    with (
        sync_playwright() as playwright,
        subprocess.Popen(serve, stderr=subprocess.PIPE, text=True) as server,
    ):
        while "Open" not in server.stderr.readline():
            pass
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS.split())
        teach(browser, Path(tempfile.mkdtemp(dir=folder)))
        reports(browser, folder)
        page = browser.new_page(viewport={"width": 1100, "height": 760})
        page.goto(f"http://127.0.0.1:{PORT}/")
        page.wait_for_selector("#try-files input[type=file]", state="attached")
        photos = [
            folder / "demo" / "photos" / name
            for name in (
                "chelsea.png",
                "coffee.png",
                "camera.png",
                "flower.jpg",
                "rocket.jpg",
                "china.jpg",
            )
        ]
        page.wait_for_timeout(1500)  # until the page has filled its lists
        page.locator("#try-model input").click()
        page.get_by_role("option", name="coffee").first.click()
        page.set_input_files("#try-files input[type=file]", [str(photo) for photo in photos])
        page.locator("#try-told").get_by_text("pictures get a label").wait_for()
        page.wait_for_timeout(1500)
        save(page.screenshot(), "app-try")
        page.get_by_role("tab", name="Train").click()
        for label in ("brick", "grass"):
            page.locator("#train-class textarea, #train-class input").fill(label)
            page.set_input_files(
                "#train-files input[type=file]",
                [str(path) for path in sorted((folder / "train" / label).iterdir())[:12]],
            )
            page.locator("#train-files").get_by_text("23").first.wait_for()
            page.click("#train-add")
            page.locator("#train-told").get_by_text(label).wait_for()
        page.locator("#train-name textarea, #train-name input").fill("two walls")
        page.click("#train-start")
        page.locator("#train-result").get_by_text("is ready").wait_for()
        page.wait_for_timeout(500)
        page.evaluate("window.scrollTo(0, 0)")
        save(page.screenshot(), "app-train")
        page.get_by_role("tab", name="Review").click()
        page.click("#review-find")
        page.locator("#review-why").get_by_text("1 of").wait_for()
        page.wait_for_timeout(1500)
        save(page.screenshot(), "app-review")
        page.get_by_role("tab", name="Compare").click()
        page.locator("#compare-second input").click()
        page.get_by_role("option", name="brick or not").first.click()
        page.click("#compare-start")
        page.locator("#compare-told").get_by_text("both say the same of").wait_for()
        page.wait_for_timeout(1500)
        save(page.screenshot(), "app-compare")
        browser.close()
        server.send_signal(signal.SIGINT)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else shutil.which("chromium") or "chromium")
