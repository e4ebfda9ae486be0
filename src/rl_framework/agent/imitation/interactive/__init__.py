"""What DAgger needs besides behavioural cloning: an expert, rollouts in which it is asked, and whom to follow when."""
