"""What several test files share: networks, traps, slow reference code."""
