//! Tables as Rust source.

use std::fmt::Write;

use lagar_codec::Table;

/// The text of `tables/trained.rs`, formatted as rustfmt does.
pub(crate) fn write(scalar: &[Table], trellis: &[Table]) -> String {
    let mut text = String::from(
        "//! Written by `cargo xtask train-tables`; do not edit.\n\n\
         use super::{Levels, Trained};\nuse crate::Split;\n",
    );
    let families = [
        (
            "SCALAR",
            "Windows as wide as the depth: depth 1 to 8.",
            scalar,
        ),
        ("TRELLIS", "Windows of 8 bits: depth 1 to 7.", trellis),
    ];
    for (name, doc, tables) in families {
        let count = tables.len();
        let _ = write!(
            text,
            "\n/// {doc}\n#[rustfmt::skip]\npub(crate) static {name}: [Trained; {count}] = [\n"
        );
        for table in tables {
            text += "    Trained {\n";
            match table.split() {
                Some(split) => {
                    text += "        levels: Levels::Split(Split {\n";
                    let _ = writeln!(text, "            a: {:?},", split.a);
                    let _ = writeln!(text, "            b: {:?},", split.b);
                    let _ = writeln!(text, "            a_sign_bit: {},", split.a_sign_bit);
                    let _ = writeln!(text, "            b_sign_bit: {},", split.b_sign_bit);
                    text += "        }),\n";
                }
                None => {
                    text += "        levels: Levels::Free(&[\n";
                    for line in table.levels().chunks(16) {
                        let line: Vec<String> = line.iter().map(i8::to_string).collect();
                        let _ = writeln!(text, "            {},", line.join(", "));
                    }
                    text += "        ]),\n";
                }
            }
            let _ = writeln!(text, "        sigma: {:?},\n    }},", table.sigma());
        }
        text += "];\n";
    }
    text
}
