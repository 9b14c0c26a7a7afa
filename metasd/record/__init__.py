"""Recording: what every drafter would have done at every position of the target's own texts. Torch."""
