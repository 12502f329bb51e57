"""Pictures by several artists: annotations, data set, split."""
