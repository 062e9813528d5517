"""The rooms: one diagnostic each; they never import each other."""
