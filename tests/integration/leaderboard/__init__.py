"""Integration tests of leaderboard."""
