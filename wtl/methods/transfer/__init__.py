"""Object-relative trajectory transfer with an inferred goal offset."""
