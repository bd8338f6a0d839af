//! Presses checkpoints: calibration, encoding, evaluation, export.
