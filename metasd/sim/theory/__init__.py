"""Growth of regret and its bounds: what docs/theory.md derives, as functions."""
