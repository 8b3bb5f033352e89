"""Reading networks that other codes have trained into equicalc's own modules."""
