"""What a section of a configuration is, also one whose keys are those of a registered class."""
