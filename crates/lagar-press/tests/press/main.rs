//! Whole presses of real checkpoints that lie in the repository.

mod bytes;
mod exact;
mod export;
mod folders;
mod quality;
mod refusals;
mod support;
mod tiers;
