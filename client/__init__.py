"""Typed client of the service and the offline evaluation over it; needs neither torch nor FAISS."""
