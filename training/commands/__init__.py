"""The verbs of ``train-station``, one module each; ``run`` is what the command line calls."""
