"""How a policy meets a task: the one environment loop, attempt after attempt."""
