"""`rl-framework evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rl_framework.cli import options
from rl_framework.cli.verb import Answer

if TYPE_CHECKING:
    from rl_framework.evaluation import EvaluationResult

__all__ = ["command"]


def command(
    run: options.RunName,
    env: options.Environment = None,
    backend: options.Backend = None,
    episodes: Annotated[int, typer.Option("--episodes", help="How many episodes to run.")] = 100,
    deterministic: options.Deterministic = False,
    seed: options.Seed = None,
    n_environments: options.NEnvironments = None,
    which: options.Which = "final",
) -> Answer:
    """Let an agent act, and say what it earns: mean, deviation, IQM, interval.

    rl-framework evaluate runs/ppo-CartPole-v1 --episodes 50 --json

    Of an experiment with several seeds every agent is evaluated. Actions are sampled unless you say --deterministic.
    """
    from rl_framework.cli.trained import open_trained, runs_of
    from rl_framework.experiment.seeds import summary_over_seeds

    asked: dict[str, Any] = {
        "n_eval_episodes": episodes,
        "deterministic": deterministic,
        "seed": seed,
        "n_environments": n_environments,
    }

    def result_of(name: str) -> EvaluationResult:
        trained = open_trained(name, which)
        source, arguments = trained.environment(env, backend)
        result: EvaluationResult = trained.agent.evaluate(source, environment_kwargs=arguments, **asked)
        return result

    several = {int(each.name.removeprefix("seed-")): str(each.folder) for each in runs_of(run)}
    if not several:
        result = result_of(run)
        return Answer({"run": run, **_data(result)}, [result.table()])
    results = {number: result_of(folder) for number, folder in several.items()}
    summary = summary_over_seeds(results)
    low, high = summary["interval_95"]
    shown = [f"seed {number}: {result}" for number, result in results.items()]
    shown.append(
        f"{len(results)} seeds: mean return {summary['mean']:.2f} ± {summary['std']:.2f}, IQM {summary['iqm']:.2f}, "
        f"95 % interval {low:.2f} to {high:.2f}"
    )
    return Answer({"run": run, **summary, "seeds": {str(n): _data(each) for n, each in results.items()}}, shown)


def _data(result: EvaluationResult) -> dict[str, Any]:
    low, high = result.confidence_interval()
    summary = {"mean": result.mean, "std": result.std, "iqm": result.iqm, "interval_95": [low, high]}
    return {**summary, "n_episodes": result.n_episodes, **result.to_dict()}
