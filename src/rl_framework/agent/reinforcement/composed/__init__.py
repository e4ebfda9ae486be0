"""The trainer behind `ComposedAgent`: it collects, lets parts annotate, and takes one step on the sum of their losses."""
