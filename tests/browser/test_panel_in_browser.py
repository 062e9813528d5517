"""The panel where people use it: moved, run and read in JupyterLab and Voila, light and dark, narrow and wide."""

from __future__ import annotations

import re
import shutil

import pytest
import servers

pytestmark = pytest.mark.browser

LIVE = "from wave_panel import panel\nshown = panel(pause=0.03)\nshown"
# the bytes that the browser shows, as text
BYTES = """async image => {
    const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
    return Array.from(bytes, byte => String.fromCharCode(byte)).join('');
}"""
# elements of the panel that hide a part of what they hold
CLIPPED = """panel => [...panel.querySelectorAll('*')].filter(element =>
    getComputedStyle(element).overflowX !== 'visible' && element.checkVisibility()
    && !element.closest('details, select, input')
    && (element.scrollWidth > element.clientWidth + 1 || element.scrollHeight > element.clientHeight + 1)
).map(element => `${element.className}: ${element.textContent.trim().slice(0, 60)} ${element.scrollWidth}x${element.scrollHeight} in ${element.clientWidth}x${element.clientHeight}`)"""
# elements that reach out of the panel's column
OUTSIDE = """panel => [...panel.querySelectorAll('*')].filter(element => element.checkVisibility() && element.tagName !== 'INPUT'
    && (element.getBoundingClientRect().right > panel.parentElement.getBoundingClientRect().right + 1
        || element.scrollWidth > panel.parentElement.clientWidth + 1)
).map(element => element.outerHTML.slice(0, 120))"""
# contrast of an element's text with the first opaque ground behind it (WCAG 2)
CONTRAST = """element => {
    const light = colour => {
        const [r, g, b] = colour.match(/[0-9.]+/g).slice(0, 3).map(v => v / 255)
            .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    let ground = element;
    while (ground && /, 0\\)|transparent/.test(getComputedStyle(ground).backgroundColor)) ground = ground.parentElement;
    const pair = [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor].map(light);
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
}"""


def panel_of(page):
    found = page.locator(".trainlab-panel")
    found.locator("img.widget-image").wait_for()
    return found


def shown_bytes(panel):
    return panel.locator("img.widget-image").evaluate(BYTES)


def wait_for_other_bytes(page, panel, before):
    for _ in range(100):
        after = shown_bytes(panel)
        if after != before:
            return after
        page.wait_for_timeout(50)
    raise AssertionError("the picture did not change in 5 s")


def turn_every_kind_of_knob(page, panel):
    """By keyboard alone: a slider, a dropdown, a checkbox and the view."""
    before = shown_bytes(panel)
    assert before.startswith("\x89PNG")
    handle = panel.get_by_role("slider", name="frequency", exact=True)
    handle.focus()
    page.keyboard.press("ArrowRight")
    moved = wait_for_other_bytes(page, panel, before)
    panel.get_by_label("colours").select_option("magma")
    coloured = wait_for_other_bytes(page, panel, moved)
    panel.get_by_label("weights").press("Space")
    weighted = wait_for_other_bytes(page, panel, coloured)
    panel.get_by_role("button", name="Profile by depth").press("Enter")
    wait_for_other_bytes(page, panel, weighted)
    assert panel.locator("img.widget-image").get_attribute("title") == "variation: Profile by depth"


def test_knobs_change_the_picture_in_jupyterlab(page, run_all):
    run_all("knobs.ipynb", LIVE)
    turn_every_kind_of_knob(page, panel_of(page))


def test_knobs_change_the_picture_in_voila(page, voila, folder):
    servers.write_page(folder / "voila.ipynb", LIVE)
    page.goto(f"{voila}/voila/render/voila.ipynb")
    turn_every_kind_of_knob(page, panel_of(page))


def test_run_probes_again_and_shows_its_progress(page, run_all):
    run_all("run.ipynb", LIVE)
    panel = panel_of(page)
    assert panel.get_by_text("variation 0.0003 over 16 pairs").count() == 1
    panel.get_by_role("slider", name="pairs").press("ArrowRight")
    panel.get_by_role("button", name="Run").press("Enter")
    panel.get_by_role("progressbar").wait_for()
    assert panel.get_by_role("button", name="Run").is_disabled()
    assert re.search(r"forward \d+ / 18", panel.inner_text())
    panel.get_by_text("variation 0.0003 over 18 pairs").wait_for()
    panel.get_by_role("progressbar").wait_for(state="detached")
    assert panel.get_by_role("button", name="Run").is_enabled()


def test_errors_are_read_in_the_panel(page, run_all):
    run_all("errors.ipynb", LIVE)
    panel = panel_of(page)
    panel.get_by_role("slider", name="pairs").press("End")
    panel.get_by_role("button", name="Run").click()
    panel.get_by_role("alert").get_by_text("the batch is too small").wait_for()
    assert panel.locator("img.widget-image").is_visible(), "the last good picture stays"
    panel.get_by_role("button", name="Predictions side by side").click()
    panel.get_by_role("alert").get_by_text("there are no images in this batch").wait_for()
    assert panel.locator("img.widget-image").is_hidden()
    panel.get_by_role("button", name="Response").click()
    frequency = panel.get_by_role("slider", name="frequency")
    frequency.press("End")
    frequency.press("ArrowLeft")
    panel.get_by_role("alert").get_by_text("ValueError: seven is <not> a frequency").wait_for()
    panel.get_by_text("Traceback", exact=True).click()
    assert "in heatmap" in panel.locator("details").inner_text()
    frequency.press("ArrowLeft")
    panel.get_by_role("alert").wait_for(state="detached")
    assert panel.locator("img.widget-image").is_visible()


def test_a_file_is_saved_and_not_overwritten(page, run_all, folder):
    run_all("save.ipynb", LIVE)
    panel = panel_of(page)
    panel.get_by_label("file name").fill("saved by hand")
    panel.get_by_label("file name").press("Tab")
    panel.get_by_role("button", name="PNG").click()
    panel.get_by_role("status").get_by_text(str(folder / "saved by hand.png")).wait_for()
    assert (folder / "saved by hand.png").read_bytes().startswith(b"\x89PNG")
    panel.get_by_role("button", name="PNG").click()
    panel.get_by_role("alert").get_by_text("is there already and was left as it is").wait_for()


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_nothing_is_clipped_or_faint(page, run_all, tmp_path, theme):
    run_all(f"{theme.split()[1]}.ipynb", LIVE, "shown.outcome", theme=theme)
    panel = panel_of(page)
    for width in (1400, 700):
        page.set_viewport_size({"width": width, "height": 1500})
        page.wait_for_timeout(400)
        page.screenshot(path=tmp_path / f"{theme.split()[1]}_{width}.png")
        assert panel.evaluate(CLIPPED) == []
        assert panel.evaluate(OUTSIDE) == []
    for part in panel.locator("label, button, td, th, p").all():
        if part.is_visible():
            assert part.evaluate(CONTRAST) >= 4.5, part.inner_text()


def test_long_names_wrap_and_stay_whole(page, run_all, tmp_path):
    run_all("long.ipynb", "from wave_panel import long_names\nlong_names()")
    panel = panel_of(page)
    for width in (1400, 700):
        page.set_viewport_size({"width": width, "height": 1500})
        page.wait_for_timeout(400)
        page.screenshot(path=tmp_path / f"long_{width}.png")
        assert panel.evaluate(CLIPPED) == []
        assert panel.evaluate(OUTSIDE) == []
        for handle in panel.get_by_role("slider").all():
            track = handle.locator("xpath=ancestor::div[contains(@class,'slider-container')]").bounding_box()
            assert track["width"] >= 100, "a slider can still be aimed at"


def test_the_variation_page_is_an_app(page, lab, folder, tmp_path):
    shutil.copy(servers.ROOT / "notebooks" / "variation.ipynb", folder)
    servers.run_page(page, lab, "variation.ipynb")
    panel = page.locator(".trainlab-panel")
    panel.scroll_into_view_if_needed()
    panel = panel_of(page)
    page.screenshot(path=tmp_path / "variation.png")
    panel.get_by_role("button", name="distances").click()
    before = shown_bytes(panel)
    panel.get_by_label("metric").select_option("cosine")
    wait_for_other_bytes(page, panel, before)
    panel.get_by_role("slider", name="pairs").press("ArrowRight")
    stale = panel.locator("button.mod-primary")
    stale.wait_for()
    panel.get_by_role("button", name="Run").click()
    stale.wait_for(state="detached")
    assert panel.get_by_role("alert").count() == 0
