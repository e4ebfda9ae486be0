"""Trains PPO on CartPole-v1, shares it on the Hugging Face Hub while it is trained, and fetches it again.

HF_TOKEN=hf_... python exploration/share_on_hub.py user/ppo-CartPole-v1
"""

from __future__ import annotations

import sys

from rl_framework import HuggingFaceConnector, HuggingFaceUploadConfig, StableBaselinesAgent

repository = sys.argv[1]

connector = HuggingFaceConnector(HuggingFaceUploadConfig(repository, keep_last=2))
agent = StableBaselinesAgent("ppo", {"n_steps": 32, "batch_size": 256, "n_epochs": 5})
how = {"n_environments": 8, "checkpoint_every": 1_024, "checkpoint_directory": "checkpoints"}
agent.train("CartPole-v1", total_timesteps=4_096, seed=0, connector=connector, **how)
print(agent.upload(connector, video_recording_environment="CartPole-v1"))

fetched = HuggingFaceConnector(download_config=repository).download()
print(fetched.evaluate("CartPole-v1", n_eval_episodes=20, deterministic=True, seed=0))
