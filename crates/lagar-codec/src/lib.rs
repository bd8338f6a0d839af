//! The window code, its tables, scales and transforms, as plain safe definitions.
