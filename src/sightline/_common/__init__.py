"""What every package needs: words, whole files, checksums, equality by value, memory."""
