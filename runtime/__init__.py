"""What runs around the network: options, checkpoints, optimiser, metrics, prediction, features and their pictures."""
