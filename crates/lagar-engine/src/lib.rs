//! Runs language models from checkpoints and from pressed files.
