"""Clustering of voices and faces: k-means, the number of identities, partitions for several numbers of clusters."""
