"""Reports: one page that shows what is there, says what is not, and lets nobody's text do anything."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from tests.servers.report_runs import evaluation, film, make_run, write_json

from rl_framework import write_report
from rl_framework.errors import ArgumentError, MissingExtraError
from rl_framework.report.page import write
from rl_framework.report.page.charts import Chart, Line
from rl_framework.report.page.colors import DARK, LIGHT

pytest.importorskip("plotly")


@pytest.fixture(autouse=True)
def short_plotly(request, monkeypatch):
    """Five megabytes of Plotly in every page would take longer than everything else here."""
    if "whole_plotly" not in request.fixturenames:
        monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "/* Plotly */\r\n")


@pytest.fixture
def whole_plotly():
    """Leaves Plotly as it is."""


LOADING = {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href"}


class Page(HTMLParser):
    """What a browser would make of the page."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.elements, self.scripts, self.text, self._open = [], [], "", []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        # Only what stands in a script of its own is not text.
        self.figures = json.loads(next(text for kind, text in self.scripts if kind == "application/json"))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs).get("type"), ""))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if self._open and self._open[-1] == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif not self._open or self._open[-1] != "style":
            self.text += data + "\n"

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def figure(self, title):
        """Returns the traces of the chart under a heading."""
        return self._figure(title)["data"]

    def layout(self, title):
        """Returns how the chart under a heading is laid out."""
        return self._figure(title)["layout"]

    def _figure(self, title):
        plots = [attributes for attributes in self.all("div") if attributes.get("class") == "plot"]
        titles = re.findall(r"<figcaption><h3>(.*?)</h3>", self.source)
        return self.figures[int(plots[titles.index(title)]["data-figure"])]


def numbers(encoded):
    return np.frombuffer(base64.b64decode(encoded["bdata"]), {"i4": "<i4", "f8": "<f8"}[encoded["dtype"]])


def test_one_page_without_anything_beside_it(tmp_path):
    run = make_run(tmp_path / "ppo-CartPole", metrics={"rollout/x": [1, 2], "time/fps": [5, 6]})
    path = write_report(run, tmp_path / "new" / "page.html")
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]
    page = Page(path)
    sections = [re.sub("<.*?>", "", heading) for heading in re.findall(r"<h2.*?</h2>", page.source)]
    assert sections == [
        "Runs",
        "Comparison in words",
        "Learning curves",
        "Evaluation",
        "Losses",
        "Optimizer and gradient norms",
        "Episode metrics",
        "Other metrics",
        "Configuration",
        "System record",
    ]
    links = [entry["href"] for entry in page.all("a")]
    assert links == [f"#section-{number}" for number in range(1, len(sections) + 1)]
    assert page.all("html") == [{"lang": "en"}]
    assert [attributes["name"] for attributes in page.all("meta") if "name" in attributes] == ["viewport", "referrer"]
    plots = [attributes for attributes in page.all("div") if attributes.get("class") == "plot"]
    assert len(plots) == len(page.figures) == 7
    assert all(plot["role"] == "img" and len(plot["aria-label"]) > 20 for plot in plots)
    for expected in ("ppo-CartPole", "agent.algorithm", "platform.system", "95 % interval"):
        assert expected in page.text


@pytest.mark.usefixtures("whole_plotly")
def test_nothing_is_loaded_from_anywhere(tmp_path):
    page = Page(write_report(make_run(tmp_path / "run"), tmp_path / "page.html"))
    addresses = [value for _, attributes in page.elements for name, value in attributes.items() if name in LOADING]
    assert addresses
    assert all(address.startswith("#") for address in addresses)
    assert not page.all("link")
    assert len(path_scripts(tmp_path / "page.html")[0]) > 1_000_000  # Plotly itself
    assert "@import" not in page.source.partition("</style>")[0]
    assert "url(" not in page.source.partition("</style>")[0]


def test_the_browser_is_told_to_run_these_scripts_only(tmp_path):
    page = Page(write_report(make_run(tmp_path / "run"), tmp_path / "page.html"))
    policy = next(each["content"] for each in page.all("meta") if "content" in each and "http-equiv" in each)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "http" not in policy
    raw = path_scripts(tmp_path / "page.html")
    assert len(raw) == 2
    for script in raw:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" in policy


def path_scripts(path):
    content = path.read_bytes()
    return [part.partition(b"</script>")[0] for part in content.split(b"<script>")[1:]]


HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)<!--\u202e\x07'


def test_texts_of_runs_stay_texts(tmp_path):
    """Names of runs and metrics, values of configurations and records, environments: all may come from a stranger."""
    name = HOSTILE.replace("/", "").replace("\x07", "")
    metrics = {f"train/{HOSTILE}</script>": [1, 2], "norms/%{x}<b>": [1, 2]}
    run = make_run(
        tmp_path / name, metrics=metrics, settings=f"note: {json.dumps(HOSTILE)}\n{json.dumps(HOSTILE)}: 1\n"
    )
    other = make_run(tmp_path / "<a href='javascript:alert(3)'>", algorithm="a2c")
    for folder in (run, other):
        write_json(folder / "results.json", evaluation([1, 2], environment=HOSTILE))
        film(folder, [HOSTILE])
    write_json(run / "record.json", [{"algorithm": {HOSTILE: "\ud800</script>"}, "seed": "<svg onload=alert(4)>"}])
    page = Page(write_report([run, other], tmp_path / "page.html", title=f"<h1>{HOSTILE}"))
    assert not page.all("img")
    assert not page.all("svg")
    assert [kind for kind, _ in page.scripts] == ["application/json", None, None]
    assert len(page.all("h1")) == 1
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert all(link["href"].startswith("#section-") for link in page.all("a"))
    assert "<img src=x onerror=alert(1)>" in page.text
    assert not {"\u202e", "\x07", "\ud800"} & set(page.source)
    # Plotly reads some HTML in what it writes: there must be none.
    shown = [trace["name"] for figure in page.figures for trace in figure["data"]]
    assert any("&lt;img" in name for name in shown)
    assert not [name for name in shown if "<" in name]
    assert {trace.get("hovertemplate") for figure in page.figures for trace in figure["data"]} == {"%{y:.4g}", None}


def test_secrets_are_hidden(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "very-secret-value")
    run = make_run(tmp_path / "run", settings="connectors:\n- {type: hub, token: abc123, note: is very-secret-value}\n")
    text = Page(write_report(run, tmp_path / "page.html")).text
    assert "connectors[0].token" in text
    assert "abc123" not in text
    assert "very-secret-value" not in text
    assert "is ***" in text


def test_runs_that_differ_by_their_seeds_are_one_curve_with_an_interval(tmp_path):
    for seed in range(3):
        make_run(tmp_path / "ppo" / f"seed-{seed}", seed=seed)
    other = make_run(tmp_path / "other", algorithm="a2c", level=20)
    page = Page(write_report([tmp_path / "ppo", other], tmp_path / "page.html"))
    traces = page.figure("Return")
    assert [trace["role"] for trace in traces].count("single") == 3 + 1  # each seed, and the episodes of the other
    low, high, mean = next(traces[index : index + 3] for index, trace in enumerate(traces) if trace["role"] == "edge")
    assert (mean["name"], high["fill"]) == ("ppo", "tonexty")
    low, high, middle = (numbers(trace["y"]) for trace in (low, high, mean))
    assert (low < middle).all()
    assert (middle < high).all()
    assert "4 runs of 2 configurations" in page.text
    assert re.findall("≠ (.*?)<", page.source) == ["agent.algorithm", "algorithm"]
    assert "ppo is better than other" not in page.text  # one run is not enough to say so
    assert "There is only 1 run of other" in page.text


def test_the_interval_is_students(tmp_path):
    for seed, value in enumerate((1.0, 2.0, 6.0)):
        make_run(tmp_path / f"run-{seed}", seed=seed, metrics={"train/x": [value] * 5})
    page = Page(write_report(tmp_path, tmp_path / "page.html"))
    low, high, mean = (numbers(trace["y"]) for trace in page.figure("train/x")[-3:])
    np.testing.assert_allclose(mean, 3.0)
    np.testing.assert_allclose(high - mean, 4.302653 * np.std([1, 2, 6], ddof=1) / np.sqrt(3), rtol=1e-5)
    np.testing.assert_allclose(mean - low, high - mean)
    assert "run" in [trace["name"] for trace in page.figure("train/x")]


def test_between_evaluations_nothing_looks_certain(tmp_path):
    """Lines of runs that cross between two evaluations would pinch an interval that is computed there."""
    for seed, measured in enumerate(((0.0, 4.0, 2.0), (4.0, 0.0, 2.0))):
        make_run(tmp_path / f"run-{seed}", seed=seed, metrics={"evaluation/mean_return": measured, "train/x": measured})
    page = Page(write_report(tmp_path, tmp_path / "page.html"))
    for title in ("Evaluations during training", "train/x"):
        low, high, mean = page.figure(title)[-3:]
        np.testing.assert_array_equal(numbers(mean["x"]), [50, 100, 150])
        np.testing.assert_allclose(numbers(high["y"]) - numbers(low["y"]), 2 * 12.7062 * np.array([2, 2, 0]), rtol=1e-4)


def test_many_values_are_averaged_at_fewer_timesteps(tmp_path):
    for seed in range(2):
        make_run(tmp_path / f"run-{seed}", seed=seed, metrics={"train/x": np.arange(5_000.0) + seed})
    _, _, mean = Page(write_report(tmp_path, tmp_path / "page.html")).figure("train/x")[-3:]
    assert len(numbers(mean["x"])) == 300
    assert (np.diff(numbers(mean["y"])) > 0).all()


def test_runs_of_the_same_seed_are_told(tmp_path):
    for name in ("one", "two", "three"):
        make_run(tmp_path / name, seed=2 if name == "three" else 1)
        config = (tmp_path / name / "config.yaml").read_text()
        (tmp_path / name / "config.yaml").write_text(config.replace(f'"{name}"', "walker"))
    page = Page(write_report(tmp_path, tmp_path / "page.html"))
    assert "walker: 2 runs have the seed 1." in page.text  # called as they were configured
    assert "seed 2" not in page.text
    for name in ("one", "two", "three"):
        config = (tmp_path / name / "config.yaml").read_text()
        (tmp_path / name / "config.yaml").write_text(config.replace("walker", "[a list]"))
    assert "one and 2 more" in Page(write_report(tmp_path, tmp_path / "page.html")).text


def test_an_unfinished_run_says_how_far_it_got(tmp_path):
    record = {"seed": 0, "start": 500, "total_timesteps": 5_000, "started": "2026-01-01T00:00:00Z"}
    for name, evaluated in (("stopped", False), ("finished", True)):
        run = make_run(tmp_path / name, algorithm=name, evaluated=evaluated)
        write_json(run / "record.json", [{**record, "started": name}])
    page = Page(write_report(tmp_path, tmp_path / "page.html"))
    assert "1,000 of 5,500" in page.text
    assert page.text.count(" of 5,500") == 1
    assert re.findall("≠ (.*?)<", page.source) == ["agent.algorithm"]  # and not when it was started


def test_configurations_are_compared_in_words(tmp_path):
    for seed in range(3):
        make_run(tmp_path / "good" / f"seed-{seed}", seed=seed, level=100)
        make_run(tmp_path / "bad" / f"seed-{seed}", seed=seed, level=10, algorithm="a2c")
    elsewhere = make_run(tmp_path / "elsewhere", algorithm="dqn")
    write_json(elsewhere / "results.json", evaluation([5, 6], environment="Pendulum-v1"))
    text = Page(write_report([tmp_path / name for name in ("bad", "good", "elsewhere")], tmp_path / "p.html")).text
    assert "good is better than bad." in text
    assert "different environments (CartPole-v1 and Pendulum-v1): not compared" in text


def test_thinned_curves_keep_their_extremes(tmp_path):
    values = np.zeros(20_000)
    values[[7_777, 13_131]] = (1e6, -1e6)
    run = make_run(tmp_path / "run", metrics={"train/spiky": values})
    path = write_report(run, tmp_path / "page.html")
    y = numbers(Page(path).figure("train/spiky")[0]["y"])
    assert len(y) < 1_000
    assert (y.max(), y.min()) == (1e6, -1e6)


def test_damaged_files_are_read_as_far_as_they_go(tmp_path):
    run = make_run(tmp_path / "run")
    metrics = (run / "metrics.jsonl").read_text().splitlines()
    first, second = [index for index, line in enumerate(metrics) if "return" in line][3:5]
    metrics[first] = '{"timestep": "x", "metrics": {"episode/return": 1}}'
    metrics[second] = '{"timestep": 5, "metrics": {"episode/return": [1]}}'
    (run / "metrics.jsonl").write_text("\n".join([*metrics, '{"timestep": 99, "metr']))
    (run / "results.json").write_text('{"returns": [1, 2], "lengths": [0, 1]}')
    (run / "record.json").write_text("[" * 100_000)
    (run / "config.yaml").write_text("a: &a [1]\nb: *a\n")
    video = film(run, ["hip"])
    (video.parent / "final.components.json").write_text('{"version": 1')
    page = Page(write_report(run, tmp_path / "page.html"))
    for expected in (
        f"metrics.jsonl: 2 lines are damaged and left out, the first of them line {first + 1}.",
        "metrics.jsonl: the last line was cut while it was written.",
        "results.json is damaged: lengths",
        "record.json is damaged",
        "config.yaml is damaged: it has aliases.",
        "The components of final.mp4 cannot be read",
    ):
        assert expected in page.text
    assert len(numbers(page.figure("Return")[0]["y"])) == 48


def test_a_folder_without_anything_measured(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("name: run\n")
    page = Page(write_report(tmp_path / "run", tmp_path / "page.html"))
    assert page.figures == []
    assert "nothing to compare" in page.text
    assert "run: nothing was measured there" in page.text


def test_empty_settings_are_no_gaps_and_unknown_ones_no_differences(tmp_path):
    run = make_run(tmp_path / "run", settings="wrappers: []\narguments: {}\n")
    write_json(make_run(tmp_path / "other", settings="wrappers: []\n") / "record.json", [])
    page = Page(write_report([run, tmp_path / "other"], tmp_path / "page.html"))
    rows = re.findall(r'<th scope="row">(wrappers|≠ arguments)</th><td>(.*?)</td>', page.source)
    assert rows == [("wrappers", "[]"), ("≠ arguments", "{}")]
    assert re.findall("≠ (.*?)<", page.source) == ["arguments"]


def test_a_small_video_becomes_part_of_the_page(tmp_path):
    run = make_run(tmp_path / "run")
    film(run, ["hip angle", "knee"], video=b"\x00small")
    page = Page(write_report(run, tmp_path / "page.html"))
    (video,) = page.all("video")
    assert base64.b64decode(video["src"].removeprefix("data:video/mp4;base64,")) == b"\x00small"
    assert video["aria-label"] == "Video of run"
    assert "final.mp4, 0 kB, is part of this page." in page.text
    (trace,) = page.figure("hip angle")
    # A gap between the episodes, and where there was no number.
    np.testing.assert_array_equal(numbers(trace["y"]), [0, 1, 2, np.nan, np.nan, 4])
    np.testing.assert_allclose(numbers(trace["x"]), [0, 0.1, 0.2, np.nan, 0.3, 0.4])


def test_a_large_video_is_linked_relative_to_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "_EMBEDDED_AT_MOST", 4)
    run = make_run(tmp_path / "runs" / "a run?#")
    film(run)
    page = Page(write_report(run, tmp_path / "pages" / "page.html"))
    (video,) = page.all("video")
    assert video["src"] == "../runs/a%20run%3F%23/videos/final.mp4"
    assert "is not part of this page" in page.text
    assert "video.overlay.show" in page.text  # how to have components


def test_components_of_an_earlier_video_are_not_shown(tmp_path):
    run = make_run(tmp_path / "run")
    film(run, ["hip"]).write_bytes(b"another one")
    assert "hip" not in Page(write_report(run, tmp_path / "page.html")).text


def test_runs_are_found_inside_folders_and_only_once(tmp_path):
    make_run(tmp_path / "runs" / "one")
    make_run(tmp_path / "runs" / "two" / "seed-1", seed=1, algorithm="a2c")
    (tmp_path / "runs" / "two" / "config.yaml").write_text("seeds: [1]\n")
    (tmp_path / "runs" / "notes").mkdir()
    text = Page(write_report([tmp_path / "runs", tmp_path / "runs" / "one"], tmp_path / "page.html")).text
    assert "2 runs of 2 configurations" in text
    assert "two/seed-1" in text


def test_a_study_shows_its_trials_and_never_counts_the_best_one_as_confirmed(tmp_path):
    study = tmp_path / "runs" / "walker-tuning"
    for number, algorithm in enumerate(("ppo", "a2c")):
        make_run(study / f"trial-000{number}", seed=number, algorithm=algorithm)
    for seed in (7, 8):
        make_run(study / "confirm-0000" / f"seed-{seed}", seed=seed)
    (study / "tuning.yaml").write_text("name: walker\n")
    write_json(study / "results.json", {"best": 1})
    page = Page(write_report(study, tmp_path / "page.html"))
    assert "4 runs of 3 configurations" in page.text
    assert "trial-0000 and walker-tuning/confirm-0000" in page.text
    # Among other runs it stands for what it found.
    make_run(tmp_path / "runs" / "other", algorithm="dqn")
    page = Page(write_report(tmp_path / "runs", tmp_path / "page.html"))
    assert "3 runs of 2 configurations" in page.text
    assert "walker-tuning/confirm-0000/seed-7" in page.text


def test_pictures_without_a_browser(tmp_path):
    from PIL import Image

    run = make_run(tmp_path / "$\\frac", metrics={"train/$\\frac{": [1, 2]})
    path = write_report(run, tmp_path / "page.html", png=True)
    names = {file.name for file in path.parent.glob("page.*.png")}
    assert names == {
        "page.learning-curves.png",
        "page.evaluation.png",
        "page.losses.png",
        "page.optimizer-and-gradient-norms.png",
        "page.episode-metrics.png",
    }
    with Image.open(tmp_path / "page.learning-curves.png") as picture:
        assert picture.width == 1200
        colors = {color for _, color in picture.convert("RGB").getcolors(1 << 20)}
    assert tuple(bytes.fromhex(LIGHT[0][1:])) in colors


def test_pictures_name_their_colors(tmp_path, monkeypatch):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    found = []

    def remember(drawn, *, handles, **options):
        found.append([handle.get_label() for handle in handles])

    monkeypatch.setattr(Axes, "legend", remember)
    monkeypatch.setattr(Figure, "legend", remember)
    evaluated = {"evaluation/mean_return": [1, 2], "evaluation/low": [0, 1], "evaluation/high": [2, 3]}
    for seed in range(2):
        make_run(tmp_path / "ppo" / f"seed-{seed}", seed=seed, metrics=evaluated)
    other = make_run(tmp_path / "_a2c", algorithm="a2c", metrics=evaluated)
    write_report([other, tmp_path / "ppo"], tmp_path / "page.html", png=True)
    # Returns, evaluations, and one for each section of small charts: losses, norms, episodes.
    assert found == [["a2c", "ppo"]] * 5


def test_a_band_that_is_far_wider_than_the_lines_is_cut(tmp_path):
    x, y = np.arange(3), np.array([0.0, 1.0, 2.0])
    wide, narrow = (Line("a", 0, x, y, (y - room, y + room)) for room in (100.0, 0.5))
    assert Chart("t", lines=[wide]).y_range == (-1.0, 3.0)
    assert Chart("t", lines=[narrow]).y_range is None
    assert Chart("t", lines=[Line("a", 0, x, y)]).y_range is None


def test_what_does_not_change_is_drawn_in_the_middle(tmp_path):
    """Plotly would draw a learning rate of 3e-4 from -1 to 1, and what rounding makes of 0.2 as a mountain."""
    for seed in range(3):
        metrics = {"train/learning_rate": [3e-4] * 5, "train/clip_range": [0.2 + seed * 5e-8] * 5}
        make_run(tmp_path / f"run-{seed}", seed=seed, metrics=metrics)
    page = Page(write_report(tmp_path, tmp_path / "page.html"))
    axes = {title: page.layout(f"train/{title}")["yaxis"] for title in ("learning_rate", "clip_range", "loss")}
    np.testing.assert_allclose(axes["learning_rate"]["range"], [2.7e-4, 3.3e-4])
    np.testing.assert_allclose(axes["clip_range"]["range"], [0.18, 0.22], rtol=1e-6)
    assert axes["learning_rate"]["exponentformat"] == "e"
    assert "exponentformat" not in page.layout("Return")["yaxis"]
    x = np.arange(3)
    for value, expected in ((0.0, (-1.0, 1.0)), (-2.0, (-2.2, -1.8))):
        flat = Line("a", 0, x, np.array([value, np.nan, value]))
        assert Chart("t", lines=[flat]).y_range == pytest.approx(expected)
    # Every evaluation was the same, and yet uncertain.
    points = Line("a", 0, x, np.ones(3), (np.zeros(3), np.full(3, 2.0)), "points")
    assert Chart("t", lines=[points]).y_range is None


@pytest.mark.parametrize(("colors", "background"), [(LIGHT, "#ffffff"), (DARK, "#0d1117")], ids=["light", "dark"])
def test_colors_have_contrast(colors, background):
    """WCAG 2.2: 3 to 1 for what is drawn."""

    def luminance(color):
        channels = np.array([int(color[index : index + 2], 16) for index in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    for color in colors:
        brighter, darker = sorted((luminance(color), luminance(background)), reverse=True)
        assert (brighter + 0.05) / (darker + 0.05) >= 3, color
    assert len(colors) == 8  # as many as the script knows


@pytest.mark.parametrize(
    ("runs", "path", "message"),
    [([], "page.html", "no run"), (["s3://bucket/run"], "page.html", "no path of this machine"),
     (["nowhere"], "page.html", "is no folder"), (["empty"], "page.html", "holds no run"),
     (["run"], "page.pdf", "ends with .html"), (["run"], "s3://bucket/page.html", "StorageConnector")],
    ids=["none", "address", "missing", "empty", "ending", "elsewhere"],
)  # fmt: skip
def test_refuses_what_cannot_be_reported(tmp_path, runs, path, message):
    make_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArgumentError, match=message):
        write_report(
            [name if "://" in name else tmp_path / name for name in runs], path if "://" in path else tmp_path / path
        )
    assert sorted(file.name for file in tmp_path.iterdir()) == ["empty", "run"]


def test_says_which_extra_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("rl_framework.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"rl-framework\[report\]"):
        write_report(make_run(tmp_path / "run"), tmp_path / "page.html")


def test_the_package_is_a_function_too(tmp_path):
    import rl_framework.report

    assert rl_framework.report.write_report is rl_framework.write_report
    path = rl_framework.report(make_run(tmp_path / "run"), tmp_path / "page.html", title="Called")
    assert path == tmp_path / "page.html"
    assert "<h1>Called</h1>" in path.read_text()


def test_the_package_is_found_without_importing_it():
    code = "import rl_framework; assert callable(rl_framework.report)"
    subprocess.run([sys.executable, "-c", code], check=True)
