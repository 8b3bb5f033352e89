"""What the commands of `equicalc` do; the words they understand are in `equicalc.cli`."""
