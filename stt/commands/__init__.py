"""The commands of `stt`, one module each."""
