"""What there is: tasks, episodes, contexts, seeds, files. Everything else builds on it."""
