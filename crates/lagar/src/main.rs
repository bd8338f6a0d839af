//! The command line of lagar.

fn main() {}
