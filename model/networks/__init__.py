"""The networks of the paper: autoencoder, critic, recommender."""
