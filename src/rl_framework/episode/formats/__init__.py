"""Other libraries' episodes: reading theirs, without trusting what is in a file, and making theirs of ours."""
