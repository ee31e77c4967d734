"""What a saliency method is, the table of named ones, and what is known of each before it is used."""
