//! Whole presses of real checkpoints that lie in the repository.

mod budget;
mod bytes;
mod exact;
mod export;
mod folders;
mod learning;
mod quality;
mod recipes;
mod refine;
mod refusals;
mod support;
mod tasks;
mod tiers;
mod together;
