//! Whole presses of real checkpoints that lie in the repository.

mod bytes;
mod export;
mod quality;
mod refusals;
mod support;
