"""Selection engines: exact greedy picks, many for each pass over the data."""
