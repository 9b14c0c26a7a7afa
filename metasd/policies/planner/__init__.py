"""The policy ``planner``: trees from several sources, by calibrated node values. Numpy and plain Python."""
