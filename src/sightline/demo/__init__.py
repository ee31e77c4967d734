"""The demo, and what it brings: the data set *Creatures* and a small residual network."""
