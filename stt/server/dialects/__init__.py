"""What clients speak: one module each, pure."""
