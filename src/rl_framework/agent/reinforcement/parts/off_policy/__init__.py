"""Parts that learn from transitions of any time, and what keeps these."""
