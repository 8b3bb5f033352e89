"""Speed and scaling of the pair style."""
