"""Feature vectors: neighbours, retrieval, clusters, galleries."""
