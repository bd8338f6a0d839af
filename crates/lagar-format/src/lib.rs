//! The .lagar container: header, index, tiers, reading, writing, limits.
