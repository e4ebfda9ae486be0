"""Videos of agents: frames, what is drawn on them, and the files they become."""
