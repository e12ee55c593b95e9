"""Reading runs: frames, plots, reports."""
