"""Live contenders side by side, each in a process of its own: ours and other people's, on one model and prompts."""
