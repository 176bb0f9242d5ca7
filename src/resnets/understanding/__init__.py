"""What data is like, and what a network learnt."""
