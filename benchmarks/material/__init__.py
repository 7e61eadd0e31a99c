"""Recordings whose words are known: spoken by synthetic voices, or taken from the shipped set."""
