"""How agents work with Stable-Baselines3 and sb3-contrib, from within."""
