"""Gradient descent: the training loop and its augmentation."""
