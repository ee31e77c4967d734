"""The claims of the literature on saliency methods, tested on one network."""
