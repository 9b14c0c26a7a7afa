"""The default policy: what it keeps, reads, believes before it has seen a round, and how its prior is learned."""
