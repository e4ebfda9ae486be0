from __future__ import annotations

import webbrowser

import pytest
from tests.cli.commands import rl
from tests.servers.report_runs import evaluation, make_run, write_json

pytest.importorskip("plotly")


def test_writes_a_page_and_pictures(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    write_json(run / "results.json", evaluation([1, 2]))
    said = rl("report", str(run), "--out", str(tmp_path / "page.html"), "--png", "--title", "A <b>title", "--json")
    assert said.data["report"] == str(tmp_path / "page.html")
    assert said.data["pictures"] == [str(tmp_path / "page.evaluation.png")]
    assert "<h1>A &lt;b&gt;title</h1>" in (tmp_path / "page.html").read_text()


def test_the_page_is_beside_whoever_asks_and_opens_if_wanted(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: bool(opened.append(address)))
    said = rl("report", str(make_run(tmp_path / "run")), "--open")
    assert said.out == "report.html\n"
    assert opened == [(tmp_path / "report.html").as_uri()]
    assert "no browser was found" in said.err


def test_says_what_is_wrong(tmp_path):
    assert "'nowhere': is no folder" in rl("report", "nowhere", code=2).err.replace("\n", " ")
    assert "--out" in rl("report", str(make_run(tmp_path / "run")), "--out", "page.pdf", code=2).err
