//! Properties of the container: what is written is read back, prefixes are files, damage and
//! contradictions are found.

mod damage;
mod exact;
mod golden;
mod hostile;
mod index_file;
mod kinds;
mod part_reader;
mod round_trip;
mod sample;
mod tails;
