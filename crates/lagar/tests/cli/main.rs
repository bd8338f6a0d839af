//! The program as its users meet it: started as a process, judged by its output and exit code.
#![allow(clippy::print_stdout, reason = "a failing case says which it is")]

mod bad_input;
mod bench;
mod chat;
mod exact;
mod help;
mod interrupted;
mod planning;
mod report;
mod results;
mod support;
mod tasks;
mod tiers;
