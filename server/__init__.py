"""The gRPC service over a release; never imports FAISS itself."""
