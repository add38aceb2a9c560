"""Where work is done: the cores of this machine, a Ray cluster, the processes of torchrun."""
