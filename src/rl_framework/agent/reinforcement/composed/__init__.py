"""The trainer behind `ComposedAgent`: it collects, lets parts annotate, and steps down the sum of their losses."""
