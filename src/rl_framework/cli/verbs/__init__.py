"""The verbs of the command line, a module each, imported when they are used."""
