"""One run directory: its configuration, its plan, and the pipeline that carries it out."""
