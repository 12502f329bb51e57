"""Several weighted labels per picture: annotation files, label files, dataset, split."""
