"""Studies: many trials with one goal."""
