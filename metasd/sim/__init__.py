"""Replay of recorded traces: sessions, Gymnasium environments and the oracles a policy never sees. No torch."""
