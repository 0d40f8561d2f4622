"""Draw the image at the top of README.md: the app and the report of the demo, side by side. Run it after `make demo`:

    python -m tests.screenshot

It needs Chromium on the PATH. Everything shown is drawn by Unmask; no person appears.
"""

import argparse
import json
import shutil
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from tests.web.app.chromium import WAIT, give, launch, open_page, run_app, settle

from unmask.paths import home_folder

OUTPUT = Path(__file__).parents[1] / "docs" / "demo.png"
_VIEW = {"width": 900, "height": 1120}
_GAP, _BACKGROUND = 24, (225, 228, 232)
_COLORS = 128
"""Of the PNG's palette: enough for flat pages, at a quarter of the size."""


def draw(bundle: Path, *, video: Path, report: Path, output: Path) -> None:
    """Write the image.

    Args:
        bundle: Bundle that the app serves.
        video: Video that the app judges.
        report: `report.html` of an evaluation.
        output: PNG file to write.
    """
    with tempfile.TemporaryDirectory() as home, launch() as browser:
        shutil.copytree(bundle, Path(home) / "outputs/train/demo/bundle")
        context = browser.new_context(viewport=_VIEW, color_scheme="light")
        context.set_default_timeout(WAIT * 3)
        shots = [_shoot_app(context, Path(home), video), _shoot_report(context, report)]
    width = sum(shot.width for shot in shots) + _GAP * 3
    canvas = Image.new("RGB", (width, shots[0].height + _GAP * 2), _BACKGROUND)
    left = _GAP
    for shot in shots:
        canvas.paste(shot, (left, _GAP))
        left += shot.width + _GAP
    output.parent.mkdir(parents=True, exist_ok=True)
    canvas.quantize(_COLORS).save(output, optimize=True)


def _shoot_app(context: Any, home: Path, video: Path) -> Image.Image:
    with run_app(home, max_upload_mb=20) as app:
        page = context.new_page()
        open_page(page, app.url)
        give(page, (video.name, video.read_bytes()))
        page.locator("[class*=st-key-verdict]").wait_for()
        settle(page)
        page.locator("[class*=st-key-verdict]").evaluate("it => it.scrollIntoView()")
        settle(page)
        return _shoot(page)


def _shoot_report(context: Any, report: Path) -> Image.Image:
    page = context.new_page()
    page.goto(report.resolve().as_uri())
    return _shoot(page)


def _shoot(page: Any) -> Image.Image:
    return Image.open(BytesIO(page.screenshot())).convert("RGB")


def main() -> None:
    """Draw the image from what `make demo` wrote."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="PNG file to write")
    demo = home_folder() / "outputs" / "demo"
    predictions = json.loads((demo / "predict" / "predictions.json").read_text())
    fake = next(each["path"] for each in predictions if each["verdict"] == "fake")
    draw(
        demo / "train" / "bundle",
        video=Path(fake),
        report=demo / "evaluate" / "report.html",
        output=parser.parse_args().output,
    )


if __name__ == "__main__":
    main()
