"""Reports as a browser shows them."""

from __future__ import annotations

import shutil
import time
from itertools import pairwise

import pytest
from tests.servers.chromium import PROGRAM, Chromium
from tests.servers.report_runs import film, make_run

from rl_framework import write_report

pytest.importorskip("plotly")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium (Debian: apt install chromium)")

HOSTILE = '"><img src=x onerror=hacked=1><script>hacked=2'


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Two configurations, one with two seeds, a video, and texts that would do harm."""
    folder = tmp_path_factory.mktemp("reports")
    settings = "note: " + "long" * 60 + "\n"
    for seed in (1, 2):
        run = make_run(folder / "ppo" / f"seed-{seed}", seed=seed, settings=settings, n_episodes=200)
    film(run, ["hip angle"], video=tiny_video(folder))
    make_run(folder / HOSTILE.replace("/", ""), algorithm="a2c", metrics={f"train/{HOSTILE}</script>": [1, 2, 3]})
    return write_report([path for path in folder.iterdir() if path.is_dir()], folder / "page.html")


def tiny_video(folder):
    import numpy as np

    from rl_framework.report import encode_video

    frames = [np.full((32, 32, 3), 40 * index, dtype=np.uint8) for index in range(5)]
    path = encode_video(frames, folder / "tiny.mp4", fps=10)
    content = path.read_bytes()
    path.unlink()
    return content


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    profile = tmp_path_factory.mktemp("profile")
    with Chromium(profile) as started:
        yield started
    shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture
def desktop(page, browser):
    """The browser with the page, which takes a second to open."""
    if browser.opened != (page, 1200, False):
        browser.open(page)
    return browser


def test_everything_is_drawn_without_an_error_or_a_request(page, browser):
    browser.open(page)
    assert browser.console == []
    assert [url[:60] for url in browser.requests if not url.startswith(("data:", page.as_uri()))] == []
    plots = browser.evaluate("document.querySelectorAll('.plot').length")
    assert plots == 7  # return, evaluation, hip angle, two losses, a norm, length
    drawn = (
        "Array.from(document.querySelectorAll('.plot')).filter(p => p.querySelector('.trace, .boxlayer path')).length"
    )
    assert browser.evaluate(drawn) == plots
    assert browser.evaluate("typeof hacked") == "undefined"
    assert browser.evaluate("document.querySelectorAll('img, .plot a').length") == 0
    # What would send a plot to somebody must not be offered.
    labels = set(browser.evaluate("Array.from(document.querySelectorAll('.modebar-btn')).map(b => b.dataset.title)"))
    assert {"Zoom", "Pan", "Reset axes"} <= labels
    assert not [label for label in labels if "hare" in label or "loud" in label]


def hovered(desktop):
    """Moves the pointer over the first plot, again if the page has moved under it, and returns what is told there."""
    until = time.monotonic() + 120.0
    told = ""
    while not told and time.monotonic() < until:
        box = desktop.evaluate(
            "(() => { const p = document.querySelector('.plot'); p.scrollIntoView({block: 'center'});"
            "const r = p.querySelector('.nsewdrag').getBoundingClientRect(); return [r.x, r.y, r.width, r.height] })()"
        )
        x, y, width, height = box
        for share in (0.1, 0.12):  # it takes a movement
            desktop.move_mouse(x + share * width, y + share * height)
        # Plotly tells it after it has drawn.
        desktop.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(() => done(true), 100)))")
        told = desktop.evaluate("document.querySelector('.hoverlayer').textContent")
    return told


def test_hovering_tells_the_numbers(desktop):
    told = hovered(desktop)
    assert "ppo" in told
    assert "<img" in told  # the other run's name, as a text


def test_a_click_in_a_series_shows_that_moment_of_the_video(desktop):
    desktop.wait_for("document.querySelector('video').readyState >= 1")
    click = "document.querySelector('.replay .plot').emit('plotly_click', {points: [{x: 0.3}]})"
    desktop.evaluate(f"(() => {{ {click}; return true }})()")
    desktop.wait_for("Math.abs(document.querySelector('video').currentTime - 0.3) < 0.01")
    # The cursor follows.
    desktop.wait_for("document.querySelector('.replay .plot .shapelayer path') !== null")


def test_headings_and_tables_are_for_everybody(desktop):
    levels = desktop.evaluate("Array.from(document.querySelectorAll('h1, h2, h3')).map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert desktop.evaluate("document.querySelectorAll('th:not([scope])').length") == 0
    unnamed = "document.querySelectorAll('[role=img]:not([aria-label]), video:not([aria-label])').length"
    assert desktop.evaluate(unnamed) == 0


EACH = "Array.from(document.querySelectorAll('{}')).map(e => {})"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_readable_on_a_phone(page, browser, dark):
    browser.open(page, width=400, height=800, dark=dark)
    assert browser.console == []
    assert browser.evaluate("document.documentElement.scrollWidth") <= 400
    ends = browser.evaluate(EACH.format(".plot, video, h1, p", "e.getBoundingClientRect().right"))
    assert max(ends) <= 400
    sizes = browser.evaluate(EACH.format(".xtick text, p, td", "parseFloat(getComputedStyle(e).fontSize)"))
    assert min(sizes) >= 10


COLORS = """(() => {
  const text = getComputedStyle(document.body);
  const tick = getComputedStyle(document.querySelector('.xtick text'));
  return [text.backgroundColor, text.color, tick.fill];
})()"""


def test_dark_mode_also_in_the_plots_and_while_it_is_open(page, browser):
    browser.open(page, dark=True)
    background, text, tick = browser.evaluate(COLORS)
    assert (background, text, tick) == ("rgb(13, 17, 23)", "rgb(230, 237, 243)", "rgb(230, 237, 243)")
    browser.color_scheme("light")
    browser.wait_for("getComputedStyle(document.querySelector('.xtick text')).fill === 'rgb(31, 35, 40)'")
    assert browser.evaluate(COLORS)[0] == "rgb(255, 255, 255)"


def test_paper_is_white_and_wants_no_toolbars(page, browser):
    browser.open(page, dark=True)
    assert browser.evaluate("(() => { window.dispatchEvent(new Event('beforeprint')); return true })()")
    browser.wait_for("getComputedStyle(document.querySelector('.xtick text')).fill === 'rgb(31, 35, 40)'")
    printed = browser.call("Page.printToPDF", preferCSSPageSize=True)["data"]
    assert len(printed) > 10_000
    assert browser.evaluate("(() => { window.dispatchEvent(new Event('afterprint')); return true })()")


def test_a_linked_video_is_found(page, browser, tmp_path, monkeypatch):
    monkeypatch.setattr("rl_framework.report.page.write._EMBEDDED_AT_MOST", 0)
    linked = write_report(page.parent / "ppo", tmp_path / "page.html")
    assert b"data:video" not in linked.read_bytes()
    browser.open(linked)
    browser.wait_for("document.querySelector('video').readyState >= 1")
    assert browser.console == []
