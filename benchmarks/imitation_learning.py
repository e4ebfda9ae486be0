"""Does it learn as much as the library's own benchmark? BC, DAgger, GAIL and AIRL with the presets, beside its figures.

Every run trains an `ImitationAgent` with the parameters of `rl_framework.agent.imitation.presets` on episodes of the
experts that `imitation_experts.py` trained (104 episodes, as many as the published study used), evaluates it on 56
episodes with sampled actions (as the study did), and adds a line to `imitation_learning.json`. Runs that are there
already are not done again, so the command can be interrupted. Run it with

    python benchmarks/imitation_learning.py --algorithms bc dagger --seeds 0 1 2
    python benchmarks/imitation_learning.py --algorithms gail --environments seals/Hopper-v1 --timesteps 500000
    python benchmarks/imitation_learning.py --report

The last form only writes the tables of `IMITATION.md` anew. The published figures are in `imitation_published.json`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from imitation_experts import DEFAULT_DIRECTORY, RECIPES, folder_of

from rl_framework import load_agent
from rl_framework.agent.imitation import ImitationAgent
from rl_framework.agent.imitation.presets import Preset, tuned_preset
from rl_framework.episode import EpisodeSequence
from rl_framework.evaluation import bootstrap_interval, interquartile_mean
from rl_framework.whole_file import written_whole

HERE = Path(__file__).parent
RESULTS = HERE / "imitation_learning.json"
PUBLISHED = HERE / "imitation_published.json"
DOCUMENT = HERE / "IMITATION.md"
ALGORITHMS = ("bc", "dagger", "gail", "airl")
EVALUATION_EPISODES = 56
BEGIN, END = "<!-- tables: written by imitation_learning.py --report -->", "<!-- end of tables -->"


def train_and_evaluate(
    preset: Preset, expert_folder: Path, checkpoints: Path, seed: int, timesteps: int | None
) -> dict[str, Any]:
    """Trains and evaluates one agent, or goes on training it where it was interrupted or where a shorter run ended.

    Args:
        preset: What to train.
        expert_folder: With `expert.zip` and `episodes`.
        checkpoints: Folder for the checkpoints of all runs.
        seed: Of the training; the evaluation has its own.
        timesteps: How long; None: as long as the preset says.

    Returns:
        The line for `imitation_learning.json`.
    """
    recorded = EpisodeSequence.load(expert_folder / "episodes")
    published = preset.total_timesteps(recorded.n_transitions)
    # The published DAgger begins with nothing and asks the expert for all of it.
    episodes = None if preset.algorithm == "dagger" else recorded
    parameters = dict(preset.algorithm_parameters)
    acting: dict[str, Any] = {}
    if preset.algorithm != "bc":
        acting = {"training_environments": preset.environment, "n_environments": preset.training["n_environments"]}
    if preset.algorithm in ("gail", "airl"):
        folder = checkpoints / f"{preset.algorithm}-{preset.environment.replace('/', '-')}-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        acting |= {"checkpoint_every": 100_000, "checkpoint_directory": folder, "resume_from": folder, "keep_last": 2}
    if preset.algorithm == "dagger":
        parameters["expert_policy"] = load_agent(expert_folder / "expert.zip")
    agent = ImitationAgent(preset.algorithm, parameters)
    started = time.perf_counter()
    agent.train(episodes, total_timesteps=timesteps or published, seed=seed, progress_bar=False, **acting)
    seconds = time.perf_counter() - started
    result = agent.evaluate(preset.environment, EVALUATION_EPISODES, deterministic=False, seed=1000 + seed)
    return {
        "algorithm": preset.algorithm,
        "environment": preset.environment,
        "seed": seed,
        "timesteps": timesteps or published,
        "timesteps_of_preset": published,
        "expert_episodes": 0 if episodes is None else len(episodes),
        "return": round(result.mean, 2),
        "std": round(result.std, 2),
        "n_episodes": result.n_episodes,
        "seconds": round(seconds),
    }


def read_results() -> list[dict[str, Any]]:
    """Returns the stored runs."""
    stored: list[dict[str, Any]] = json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else []
    return stored


def add_result(line: dict[str, Any]) -> None:
    """Stores one more run."""
    runs = sorted([*read_results(), line], key=lambda run: [run[key] for key in ("environment", "algorithm", "seed")])
    with written_whole(RESULTS) as path:
        path.write_text('{"runs": [\n ' + ",\n ".join(json.dumps(run) for run in runs) + "\n]}\n")


def store_experts(directory: Path) -> None:
    """Keeps what was measured of the experts beside the runs, so that the tables can be written without them."""
    measured = [folder_of(directory, environment) / "expert.json" for environment in RECIPES]
    lines = [json.dumps(json.loads(path.read_text())) for path in measured if path.exists()]
    if lines:
        with written_whole(HERE / "imitation_experts.json") as path:
            path.write_text('{"experts": [\n ' + ",\n ".join(lines) + "\n]}\n")


# The tables


def describe(returns: list[float]) -> str:
    """Returns the interquartile mean over seeds with its 95 % interval, as text."""
    low, high = bootstrap_interval(returns, "iqm", 0.95)
    return f"{interquartile_mean(returns):,.0f} [{low:,.0f}, {high:,.0f}]"


def expert_table() -> list[str]:
    """Returns the lines of the table of experts."""
    lines = [
        "| environment | steps | ours, actions sampled | ours, likeliest actions | published | random actions |",
        "|---|---|---|---|---|---|",
    ]
    for expert in json.loads((HERE / "imitation_experts.json").read_text())["experts"]:
        cells = [
            f"{expert[how]['iqm']:,.0f} [{expert[how]['iqm_interval'][0]:,.0f}, {expert[how]['iqm_interval'][1]:,.0f}]"
            for how in ("sampled", "deterministic")
        ]
        published, random = expert["published"], f"{expert['random']:,.0f}"
        cells = [expert["environment"], f"{expert['timesteps']:,}", *cells]
        cells += [f"{published['mean']:,.0f} ± {published['std']:,.0f}", random]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def expert_returns() -> dict[str, float]:
    """Returns the mean return of each of our experts, actions sampled."""
    experts = json.loads((HERE / "imitation_experts.json").read_text())["experts"]
    return {expert["environment"]: expert["sampled"]["mean"] for expert in experts}


def run_table() -> list[str]:
    """Returns the lines of the table of runs, one for each environment and algorithm."""
    lines = [
        "| environment | algorithm | ours, IQM over seeds | of our expert | steps (of preset) | seeds | published |",
        "|---|---|---|---|---|---|---|",
    ]
    published = {
        (entry["environment"], entry["algorithm"]): entry for entry in json.loads(PUBLISHED.read_text())["results"]
    }
    experts, runs = expert_returns(), read_results()
    for environment in RECIPES:
        for algorithm in ALGORITHMS:
            own = [run for run in runs if (run["environment"], run["algorithm"]) == (environment, algorithm)]
            for steps in sorted({run["timesteps"] for run in own}) or [None]:
                group = [run for run in own if run["timesteps"] == steps]
                returns = [run["return"] for run in group]
                cells = [environment, algorithm, "not run", "", "", ""]
                if group:
                    share = group[0]["timesteps"] / group[0]["timesteps_of_preset"]
                    cells[2] = describe(returns) if len(returns) > 1 else f"{returns[0]:,.0f}"
                    cells[3] = f"{np.mean(returns) / experts[environment]:.0%}"
                    cells[4] = f"{steps:,} ({share:.0%})"
                    cells[5] = str(len(group))
                theirs = published.get((environment, algorithm))
                cells.append("none")
                if theirs is not None:
                    share = np.mean(theirs["returns"]) / np.mean(theirs["expert_return"])
                    cells[6] = f"{describe(theirs['returns'])}, {share:.0%} of theirs"
                lines.append(f"| {' | '.join(cells)} |")
    return lines


def write_tables() -> None:
    """Writes the tables of `IMITATION.md` anew; the text around them stays."""
    before, rest = DOCUMENT.read_text().split(BEGIN)
    after = rest.split(END)[1]
    tables = "\n".join(["### Experts", "", *expert_table(), "", "### Imitation", "", *run_table()])
    with written_whole(DOCUMENT) as path:
        path.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}")


def main() -> None:
    """Runs what is not stored yet and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="*", default=list(ALGORITHMS), choices=ALGORITHMS)
    parser.add_argument("--environments", nargs="*", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--timesteps", type=int, help="environment steps of each run; without it as in the preset")
    parser.add_argument("--experts", type=Path, default=DEFAULT_DIRECTORY, help="what imitation_experts.py wrote")
    parser.add_argument("--checkpoints", type=Path, default=Path("runs/imitation_learning"))
    parser.add_argument("--report", action="store_true", help="only write the tables")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.report:
        store_experts(arguments.experts)
        for environment in arguments.environments:
            for algorithm in arguments.algorithms:
                for seed in arguments.seeds:
                    run(algorithm, environment, seed, arguments)
    write_tables()


def run(algorithm: str, environment: str, seed: int, arguments: argparse.Namespace) -> None:
    """Does one run, unless it is stored already."""
    timesteps, folder = arguments.timesteps, folder_of(arguments.experts, environment)
    stored = [line for line in read_results() if (line["algorithm"], line["environment"]) == (algorithm, environment)]
    if any(line["seed"] == seed and line["timesteps"] == (timesteps or line["timesteps_of_preset"]) for line in stored):
        return
    preset = tuned_preset(algorithm, environment)
    line = train_and_evaluate(preset, folder, arguments.checkpoints, seed, timesteps)
    add_result(line)
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
