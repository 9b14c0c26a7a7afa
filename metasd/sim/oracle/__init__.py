"""What hindsight knows: fixed arms and clairvoyant optima, in rounds and in seconds. No policy may see it."""
