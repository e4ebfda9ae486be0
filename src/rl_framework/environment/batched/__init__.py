"""The batched form: many environments stepped as one, in this process or in others."""
