"""Tokens are planted, everything goes wrong, and everything that was written is searched."""

from __future__ import annotations

import base64
import io
import logging
import sys
import traceback
import zipfile
from collections.abc import ItemsView, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gymnasium
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from tests.connector.cases import CASES, Case

from rl_framework import LocalConnector, StableBaselinesAgent
from rl_framework.errors import ConnectorError
from rl_framework.secrecy import RedactingFilter, describe_error, redact, redact_values, remember_secret

# Neither looks like a token: only those who know them can tell.
PLANTED = "plain-words/are+secret&too"
GIVEN = "Another plain secret, given as argument"


class Secretive(CartPoleEnv):
    """An environment that has to be told a token."""

    def __init__(self, token: str, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Case]:
    with request.param.running(monkeypatch, tmp_path) as running:
        yield running


def _contents(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    yield name, content
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                yield from _contents(f"{name}/{member}", archive.read(member))


def _forms(secret: str) -> list[bytes]:
    return [form.encode() for form in (secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode())]


def test_planted_tokens_are_nowhere(
    case: Case, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    for name in ("", "huggingface_hub", "httpx2", "httpcore2", "clearml"):
        caplog.set_level(logging.DEBUG, name or None)
    case.plant(monkeypatch, PLANTED)
    remember_secret(GIVEN)
    monkeypatch.setattr(sys, "argv", ["train.py", PLANTED, f"--login={GIVEN}"])
    gymnasium.register("Secretive-v0", Secretive, max_episode_steps=500)
    told = []
    try:
        # A proxy that repeats what it was sent; then a service that does not know the token any more.
        case.fail(times=2, status=503, message=f"who sent 'Authorization: Bearer {PLANTED}'?")
        case.fail(times=10_000, status=401, message=f"{PLANTED} and {GIVEN} are wrong")
        agent = StableBaselinesAgent("ppo", {"n_steps": 32, "batch_size": 32, "n_epochs": 1})
        agent.train(
            "Secretive-v0",
            64,
            environment_kwargs={"token": PLANTED},
            seed=0,
            progress_bar=False,
            connector=[case.connector(), LocalConnector("local")],
            checkpoint_every=32,
            checkpoint_directory="checkpoints",
        )
        for action in (agent.upload, agent.download, lambda connector: connector.sync()):
            with pytest.raises(ConnectorError) as caught:
                action(case.connector())
            told += traceback.format_exception(caught.value)
            error: BaseException | None = caught.value
            while error is not None:
                told += [repr(error), *map(str, error.args)]
                error = error.__cause__ or error.__context__
        agent.save_to_file("agent.zip")
        case.repair()
        case.connector().sync()
        agent.upload(case.connector())
    finally:
        gymnasium.registry.pop("Secretive-v0")
    written = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    written |= case.received() | {"log": caplog.text.encode(), "exceptions": "\n".join(told).encode()}
    everything = [found for name, content in written.items() for found in _contents(name, content)]
    for secret in (PLANTED, GIVEN):
        places = [name for name, content in everything if any(form in content for form in _forms(secret))]
        assert places == []
    # The search itself works: what is hidden was there.
    assert any(b"***" in content for name, content in everything if "agent.zip" in name)
    assert "***" in caplog.text
    assert "***" in "".join(told) or all(name in "".join(told) for name in case.helpful)


def test_what_is_known_and_what_looks_secret_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEARML_API_SECRET_KEY", "ABC123def456")
    monkeypatch.setenv("MY_SERVICE_TOKEN", "short")  # would be found in ordinary words
    text = redact(
        "key ABC123def456, hf_abcdefghij, Bearer abcdefgh.x, https://me:pw@host/x?X-Amz-Signature=abc123&y=1, short"
    )
    assert text == "key ***, ***, Bearer ***, https://***@host/x?X-Amz-Signature=***&y=1, short"
    encoded = base64.b64encode(b"ABC123def456").decode()
    assert redact(f"Basic {encoded}") == "Basic ***"
    assert redact_values({"a": ["ABC123def456", 1, None]}) == {"a": ["***", 1, None]}
    assert describe_error(ValueError("bad ABC123def456\nkey")) == "ValueError: bad *** key"
    assert redact("the episode's return is 500.0 at checkpoints/checkpoint_000000000128.zip") == (
        "the episode's return is 500.0 at checkpoints/checkpoint_000000000128.zip"
    )


def test_a_variable_that_another_thread_takes_away_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As MLflow's delivery does with its settings, while the training looks for what has to be hidden."""

    class Environment(dict[str, str]):
        def __iter__(self) -> Iterator[str]:
            yield from (*super().__iter__(), "GONE_TOKEN")

        def items(self) -> Any:
            return ItemsView(self)

    monkeypatch.setattr("rl_framework.secrecy.os.environ", Environment(HF_TOKEN="not-a-word-at-all"))
    assert redact("with not-a-word-at-all") == "with ***"


def test_the_filter_hides_in_messages_and_tracebacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "not-a-word-at-all")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(RedactingFilter())
    log = logging.Logger("mine")
    log.addHandler(handler)
    try:
        raise ValueError("not-a-word-at-all")
    except ValueError:
        log.exception("with %s", "not-a-word-at-all")
    assert "not-a-word-at-all" not in stream.getvalue()
    assert "with ***" in stream.getvalue()
    assert "ValueError: ***" in stream.getvalue()
