"""What learning needs where states are few and their dynamics known: a model, and a policy that is a table."""
