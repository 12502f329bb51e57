"""From folders of pictures to a data set: whose they are, which are sound, which side they go to."""
