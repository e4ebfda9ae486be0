"""What of an algorithm of Stable-Baselines3 is saved, restored and resumed."""
