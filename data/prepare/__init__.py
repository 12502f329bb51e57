"""From folders of pictures to a dataset for training: artists, damaged and equal files, split, output folder."""
