"""What a run consists of: demonstrations, trials, training, evaluation; each writes one folder."""
