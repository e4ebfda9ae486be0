from __future__ import annotations

import pytest

from rl_framework import errors
from rl_framework.errors import ArgumentError, MissingExtraError, RLFrameworkError, UnknownNameError, require_extra


def test_every_error_is_ours() -> None:
    classes = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]
    assert len(classes) > 10
    assert all(issubclass(error, RLFrameworkError) for error in classes)


def test_argument_error_names_argument_value_and_remedy() -> None:
    error = ArgumentError("n_eval_episodes", 0, "must be at least 1", "Ask for one.")
    assert str(error) == "n_eval_episodes=0: must be at least 1. Ask for one."
    assert (error.argument, error.value) == ("n_eval_episodes", 0)
    assert isinstance(error, ValueError)


def test_a_long_value_is_cut_to_a_line() -> None:
    message = str(ArgumentError("environments", list(range(10_000)), "too many"))
    assert len(message) < 300
    assert "\n" not in message


@pytest.mark.parametrize(("wrong", "right"), [("pppo", "ppo"), ("PPO2", "ppo"), ("sacc", "sac")])
def test_unknown_name_suggests_the_nearest(wrong: str, right: str) -> None:
    error = UnknownNameError("algorithm_class", wrong, ["ppo", "sac", "dqn"])
    assert error.suggestions[0] == right
    assert f"Did you mean '{right}'" in str(error)


def test_unknown_name_without_a_near_one_lists_what_there_is() -> None:
    message = str(UnknownNameError("algorithm_class", "xyzzy", ["ppo", "sac"]))
    assert "Did you mean" not in message
    assert "Known: ppo, sac" in message


def test_unknown_name_does_not_list_a_hundred_names() -> None:
    message = str(UnknownNameError("preset", "ppo/task-7", [f"ppo/task-{i:03}" for i in range(100)]))
    assert "Known: 100 names, from 'ppo/task-000' to 'ppo/task-099'." in message
    assert "Did you mean" in message


def test_unknown_name_tells_where_names_come_from() -> None:
    origins = {"ppo": "rl_framework", "sac": "rl_framework", "ppo_plus": "tools 1.0"}
    message = str(UnknownNameError("algorithm_class", "ppo_plu", origins, origins=origins))
    assert "Did you mean 'ppo_plus' (tools 1.0) or 'ppo' (rl_framework)?" in message
    assert "Known: ppo, sac (rl_framework); ppo_plus (tools 1.0)." in message
    assert "Known: ppo, ppo_plus, sac." in str(UnknownNameError("algorithm_class", "ppo_plu", origins))


def test_missing_extra_holds_the_command() -> None:
    with pytest.raises(MissingExtraError) as caught:
        require_extra("video", "record_video", "a_module_that_nobody_has")
    assert 'pip install "rl-framework[video]"' in str(caught.value)
    assert "record_video" in str(caught.value)
    assert isinstance(caught.value, ImportError)
    assert caught.value.extra == "video"


@pytest.mark.parametrize(
    ("extra", "agent", "library", "version"),
    [("imitation", "ImitationAgent", "imitation", "1.0.1"), ("offline", "OfflineAgent", "d3rlpy", "2.8.1")],
)
def test_a_library_that_its_extra_cannot_install_takes_a_further_line(
    extra: str, agent: str, library: str, version: str
) -> None:
    """The own metadata of imitation and of d3rlpy asks for old versions."""
    message = str(MissingExtraError(extra, agent, library))
    assert f'pip install "rl-framework[{extra}]" && pip install --no-deps {library}=={version}' in message


def test_an_extra_that_is_there_passes() -> None:
    require_extra("video", "record_video", "json")


def test_the_extras_in_the_messages_exist() -> None:
    from importlib.metadata import metadata

    assert set(errors._EXTRAS) <= set(metadata("rl-framework").get_all("Provides-Extra") or [])
