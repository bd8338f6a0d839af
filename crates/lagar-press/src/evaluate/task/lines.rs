//! Lines of a file, with their numbers.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::PressError;

/// Bytes of a line, at most: no question is longer, and a file without line ends must not fill the memory.
const LONGEST: u64 = 16 << 20;

/// All lines that are not blank, with numbers from 1.
pub(super) fn read(
    path: &Path,
) -> Result<impl Iterator<Item = Result<(usize, String), PressError>>, PressError> {
    let io = |source| PressError::Io {
        path: path.into(),
        source,
    };
    let mut reader = BufReader::new(File::open(path).map_err(io)?);
    let mut number = 0;
    Ok(std::iter::from_fn(move || {
        loop {
            number += 1;
            let mut line = Vec::new();
            let read = reader
                .by_ref()
                .take(LONGEST + 1)
                .read_until(b'\n', &mut line);
            let refuse = |problem| PressError::TaskLine {
                path: path.into(),
                line: number,
                problem,
            };
            return match read {
                Ok(0) => None,
                Ok(_) if line.len() as u64 > LONGEST => {
                    Some(Err(refuse(format!("longer than {LONGEST} bytes"))))
                }
                Ok(_) => match String::from_utf8(line) {
                    Ok(line) if line.trim().is_empty() => continue,
                    // Some editors begin a file with a mark of its encoding.
                    Ok(line) => Some(Ok((number, line.trim_start_matches('\u{feff}').to_owned()))),
                    Err(error) => Some(Err(refuse(format!(
                        "not UTF-8 text: byte {} begins no character",
                        error.utf8_error().valid_up_to()
                    )))),
                },
                Err(source) => Some(Err(PressError::Io {
                    path: path.into(),
                    source,
                })),
            };
        }
    }))
}
