//! `lagar demo`.
mod assets;
mod chart;
mod page;
mod report;
