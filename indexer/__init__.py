"""Item vectors to a searchable, versioned release; knows FAISS, never gRPC."""
