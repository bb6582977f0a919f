"""Collapse of a network that is not ours: any `torch.nn.Module` with a linear classifier, and its data."""
