"""The files, commands and code in docs/tuning.md are exactly as printed, and so are its tables."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from tests.cli.commands import rl

from rl_framework.experiment import Run
from rl_framework.experiment.tuning.choosing import PRUNERS, SAMPLERS
from rl_framework.experiment.tuning.result import TuningResult
from rl_framework.experiment.tuning.section import ConfirmationConfig, TuningConfig
from rl_framework.experiment.tuning.space import USUAL

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tuning.md").read_text()


def test_the_page_on_tuning_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    monkeypatch.setattr("rl_framework.connector.local.plot_learning_curve", lambda *_: None)
    names: dict[str, object] = {}
    said = []
    for language, code in re.findall(r"```(\w+)\n(.*?)```", PAGE, flags=re.DOTALL):
        if language == "yaml":
            Path("cartpole.yaml").write_text(code)
        elif language == "python":
            exec(compile(code, "tuning.md", "exec"), names)
        else:
            for line in code.splitlines():
                program, *arguments = shlex.split(line)
                if program == "rl-framework":
                    said.append(rl(*arguments))
    first, trained, longer = said
    result = names["result"]
    assert isinstance(result, TuningResult)
    assert [trial.state for trial in result.trials] == ["complete"] * 3
    assert first.last_line == "rl-framework train --config runs/cartpole-tuning/best.yaml"
    assert result.words() in first.out.replace("\n", " ")
    assert "trial 2: complete" in first.err
    assert "trial 0: evaluation/mean_return" in first.err  # and not only when it is over
    assert "is measured again, on 2 fresh seeds" in first.err
    assert "there is no checkpoint" not in first.err
    assert Run.open("runs/cartpole-best").status == "finished"
    assert "resume runs/cartpole-best" in trained.last_line
    assert "4 trials: 4 complete" in longer.out
    assert "on the same seeds" in longer.out


def test_the_page_names_every_key_and_name() -> None:
    table = PAGE.partition("| key | `auto` is |")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^`|]+) \|$", table, flags=re.MULTILINE))
    assert list(rows) == list(USUAL)
    for name, entry in USUAL.items():
        numbers = [float(number) for number in re.findall(r"[\d.]+(?:e-\d+)?", rows[name])]
        assert numbers == [float(value) for value in entry.get("choices") or (entry["low"], entry["high"])], name
        assert ("log" in rows[name]) == bool(entry.get("log")), name
    named = set(re.findall(r"`(\w+)`", PAGE))
    assert set(TuningConfig.model_fields) - {"search"} <= named
    assert set(ConfirmationConfig.model_fields) <= named
    assert {*SAMPLERS, *PRUNERS} <= named


def test_the_command_line_tells_mistakes_in_its_own_words() -> None:
    pytest.importorskip("optuna")
    Path("plain.yaml").write_text("agent: {algorithm: ppo}\nenvironment: {id: CartPole-v1}\n")
    assert "tuning: is needed" in rl("tune", "plain.yaml", code=2).err
    search = "tuning.search={agent.parameters.gamma: {low: 0.9, high: 2}}"
    said = rl("tune", "plain.yaml", "--trials", "0", "--sampler", "tpee", search, code=2)
    assert "--trials: must be at least 1, and is 0" in said.err
    said = rl("tune", "plain.yaml", "--sampler", "tpee", search, code=2)
    assert "--sampler: 'tpee': not known. Did you mean 'tpe'?" in said.err
    assert "override: tuning.search.agent.parameters.gamma.high: must be at most 1, and is 2" in said.err
    assert "has no tuning.yaml" in rl("tune", ".", code=2).err


def test_json_is_one_document(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    from rl_framework.experiment.tuning import trial

    monkeypatch.setattr(trial, "_value", lambda setting, trial, folder, values: values["agent.parameters.gamma"])
    Path("plain.yaml").write_text("agent: {algorithm: ppo}\nenvironment: {id: CartPole-v1}\nseed: 1\n")
    search = "tuning.search={agent.parameters.gamma: {choices: [0.9, 0.99]}}"
    data = rl("tune", "plain.yaml", "--sampler", "grid", "--confirm-seeds", "0", search, "--json").data
    assert data["counts"] == {"complete": 2}
    assert data["best"]["parameters"] == {"agent.parameters.gamma": 0.99}
    assert data["best_config"] == "runs/ppo-CartPole-v1-tuning/best.yaml"
    assert data["done"]
