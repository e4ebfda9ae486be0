"""Agents for use elsewhere: ONNX, `torch.export`, and Stable-Baselines3's own .zip."""
