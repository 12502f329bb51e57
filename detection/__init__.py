"""Where in the picture: networks that find boxes, instances and regions, their data and their figures."""
