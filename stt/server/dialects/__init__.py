"""What clients speak: a module for each dialect; `families.py` has the table of those that are served."""
