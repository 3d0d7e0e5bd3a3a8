"""The three phases of Algorithm 1, their checkpoints and their records."""
