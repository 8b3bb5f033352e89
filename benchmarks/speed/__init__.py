"""How fast: networks, kernels, and the same structures through other codes."""
