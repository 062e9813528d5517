"""How long from a key press to the new picture on screen? Panel beside interact, in one JupyterLab.

Run with ``python -m benchmarks.panel_latency``; takes about a minute. Every contestant draws the same
256×256 heat map with a colour bar; the arrow keys move its slider, and the clock stops at the frame that
paints the new picture.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from tests.browser import servers

MOVES = 30
PANEL = """
import json
import numpy as np
from trainlab.finding import Finding, Findings, Level
from trainlab.panel import Panel, PanelView
y, x = np.mgrid[:256, :256] / 256
def heatmap(figure, frequency=2):
    axes = figure.add_subplot()
    image = axes.imshow(np.sin(6 * frequency * x) * np.cos(9 * y))
    axes.set_title(f"frequency {frequency}")
    figure.colorbar(image)
Panel(title="latency", question="How long?", run=dict, rerun={}, to_json=json.dumps,
      findings=lambda _: Findings((Finding("LAT001", "It is quick", Level.OK, "see the table"),)),
      views=lambda _: [PanelView("heatmap", "Heat map", heatmap, {"frequency": (1, 8)}, {"frequency": 4})])
"""
INTERACT = """
%matplotlib inline
import matplotlib.pyplot as plt
import numpy as np
from ipywidgets import interact
from matplotlib_inline.backend_inline import set_matplotlib_formats
set_matplotlib_formats(FORMAT)
y, x = np.mgrid[:256, :256] / 256
@interact(frequency=(1, 8))
def heatmap(frequency=4):
    figure, axes = plt.subplots(figsize=(7.2, 4.0), layout="constrained")
    image = axes.imshow(np.sin(6 * frequency * x) * np.cos(9 * y))
    axes.set_title(f"frequency {frequency}")
    figure.colorbar(image)
    plt.show()
"""
CONTESTANTS = {
    "trainlab Panel, twice as fine": PANEL,
    "interact into Output, twice as fine": INTERACT.replace("FORMAT", "'retina'"),
    "interact into Output, plain": INTERACT.replace("FORMAT", "'png'"),
}
# milliseconds from the key's event to the frame that shows an image with another source
PRESS = """key => new Promise(done => {
    const output = document.querySelector('.jp-OutputArea-output');
    const picture = () => output.querySelector('img');
    const before = picture().src;
    const start = performance.now();
    const handle = output.querySelector('.noUi-handle');
    handle.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
    const look = () => {
        const image = picture();
        if (image && image.src !== before && image.complete && image.naturalWidth) {
            image.decode().then(() => requestAnimationFrame(() => done(performance.now() - start)));
        } else requestAnimationFrame(look);
    };
    look();
})"""


def measure() -> dict[str, list[float]]:
    """Milliseconds of each move, by contestant."""
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as home:
        pages = Path(home, "pages")
        pages.mkdir()
        env = servers.environment(Path(home, "jupyter"))
        with servers.serve(servers.LAB, "/api/status", pages, env) as lab, servers.browser() as chromium:
            for number, (name, cell) in enumerate(CONTESTANTS.items()):
                servers.write_page(pages / f"{number}.ipynb", cell)
                tab = chromium.new_page(viewport={"width": 1400, "height": 1000}, device_scale_factor=2)
                servers.run_page(tab, lab, f"{number}.ipynb")
                tab.locator(".jp-OutputArea-output img").first.wait_for()
                moves = []
                for move in range(MOVES + 4):
                    moves.append(tab.evaluate(PRESS, "ArrowRight" if move % 2 else "ArrowLeft"))
                    tab.wait_for_timeout(150)
                times[name] = moves[4:]
                tab.close()
    return times


def main() -> None:
    """Prints the table."""
    if servers.CHROMIUM is None:
        sys.exit("chromium is not installed")
    times = measure()
    ours = statistics.median(next(iter(times.values())))
    print(f"key press to new picture, {MOVES} moves each, 256×256 heat map at 720×400 CSS pixels")
    print(f"{'':38}{'median ms':>10}{'p90 ms':>10}{'× Panel':>10}")
    for name, moves in times.items():
        median, p90 = statistics.median(moves), statistics.quantiles(moves, n=10)[-1]
        print(f"{name:38}{median:10.0f}{p90:10.0f}{median / ours:10.2f}")


if __name__ == "__main__":
    main()
