//! The backward pass: against `torch`, against finite differences, and against itself.

#[path = "../pressed/mod.rs"]
mod pressed;
#[path = "../whole_model/mod.rs"]
mod whole_model;

mod autograd;
mod properties;
mod weights;
