"""What preference comparisons need besides reinforcement learning: fragments, who prefers which, and trainers."""
