"""A trace as a session: the replay side of live decoding. Knows no future and no optimum."""
