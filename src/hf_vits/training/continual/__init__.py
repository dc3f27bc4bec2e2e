"""Training on a stream of tasks."""
