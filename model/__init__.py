"""Everything that learns: data, networks, losses, training, baselines, metrics and the bundle."""
