"""The phases of Algorithm 1 and one beyond it, their checkpoints and their records."""
