"""Subjects to try a diagnostic on: healthy and sick, full size and tiny."""
