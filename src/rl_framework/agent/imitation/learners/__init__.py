"""How each algorithm of imitation is built, run, saved and resumed: one module a family."""
