//! A finished piece of a press on disk: the transforms and pressed linears of one layer, of the
//! embedding, or of the output head. A press that is resumed starts from those that are there.
//!
//! Layout: magic, header length (u64), header (JSON), blobs, BLAKE3 of everything before it.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use lagar_codec::PackedSparse;
use lagar_format::{TableRecord, os};
use serde::{Deserialize, Serialize};

use super::loss::Loss;
use super::low_rank::EncodedLowRank;
use super::stage::EncodedStage;
use crate::PressError;

const MAGIC: &[u8; 8] = b"LAGARUN4";
const HASH_LEN: u64 = 32;
const HEADER_LIMIT: u64 = 1 << 26;

/// Bytes of a unit's file.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Span {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// One transform and the linears that read through it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredSite {
    pub(crate) width: usize,
    pub(crate) permutation: Span,
    pub(crate) signs: Span,
    pub(crate) linears: Vec<StoredLinear>,
}

/// One pressed linear.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredLinear {
    pub(crate) name: String,
    /// For each tier what it adds, a window stage first.
    pub(crate) tiers: Vec<Vec<StoredTerm>>,
}

/// Something that a tier adds to a linear, before it is stored.
#[derive(Debug)]
pub(crate) enum EncodedTerm {
    Window(EncodedStage),
    Sparse(PackedSparse),
    LowRank(EncodedLowRank),
}

/// The same, stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoredTerm {
    Window(StoredWindow),
    Sparse {
        gap_bytes: u8,
        counts: Span,
        gaps: Span,
        values: Span,
    },
    LowRank {
        rank: usize,
        v: StoredWindow,
        u: StoredWindow,
    },
}

impl StoredTerm {
    /// What it takes in a file.
    pub(crate) fn bytes(&self) -> u64 {
        let mut term = self.clone();
        term.spans().into_iter().map(|span| span.bytes).sum()
    }

    fn spans(&mut self) -> Vec<&mut Span> {
        match self {
            Self::Window(stage) => stage.spans(),
            Self::Sparse {
                counts,
                gaps,
                values,
                ..
            } => vec![counts, gaps, values],
            Self::LowRank { v, u, .. } => {
                let mut spans = v.spans();
                spans.extend(u.spans());
                spans
            }
        }
    }
}

impl StoredWindow {
    fn spans(&mut self) -> Vec<&mut Span> {
        let windows = self.windows.iter_mut();
        let mut spans = vec![&mut self.row_scales];
        spans.extend(windows.flat_map(|w| [&mut w.codes, &mut w.scales]));
        spans
    }
}

/// See [`EncodedStage`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredWindow {
    pub(crate) row_scales: Span,
    pub(crate) windows: Vec<StoredWindows>,
    pub(crate) loss: Loss,
}

/// The windows of one depth.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredWindows {
    pub(crate) table: TableRecord,
    pub(crate) depths: Vec<u8>,
    pub(crate) codes: Span,
    pub(crate) scales: Span,
}

/// A unit's file and what is in it.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) path: PathBuf,
    pub(crate) sites: Vec<StoredSite>,
}

/// Collects the blobs of a unit.
#[derive(Debug, Default)]
pub(crate) struct UnitBuilder {
    sites: Vec<StoredSite>,
    blobs: Vec<Vec<u8>>,
    length: u64,
}

impl UnitBuilder {
    fn blob(&mut self, bytes: Vec<u8>) -> Span {
        let span = Span {
            offset: self.length,
            bytes: bytes.len() as u64,
        };
        self.length += span.bytes;
        self.blobs.push(bytes);
        span
    }

    /// Starts a site; the linears that follow belong to it.
    pub(crate) fn site(&mut self, width: usize, permutation: Vec<u8>, signs: Vec<u8>) {
        let permutation = self.blob(permutation);
        let signs = self.blob(signs);
        self.sites.push(StoredSite {
            width,
            permutation,
            signs,
            linears: Vec::new(),
        });
    }

    /// Adds a linear to the last site: for each tier what it adds.
    pub(crate) fn linear(&mut self, name: &str, tiers: Vec<Vec<EncodedTerm>>) {
        let tiers = tiers.into_iter().map(|terms| {
            let terms = terms.into_iter().map(|term| self.term(term));
            terms.collect()
        });
        let linear = StoredLinear {
            tiers: tiers.collect(),
            name: name.to_owned(),
        };
        self.sites
            .last_mut()
            .expect("a site is started first")
            .linears
            .push(linear);
    }

    fn term(&mut self, term: EncodedTerm) -> StoredTerm {
        match term {
            EncodedTerm::Window(stage) => StoredTerm::Window(self.window(stage)),
            EncodedTerm::Sparse(packed) => StoredTerm::Sparse {
                gap_bytes: packed.gap_bytes,
                counts: self.blob(packed.counts),
                gaps: self.blob(packed.gaps),
                values: self.blob(packed.values),
            },
            EncodedTerm::LowRank(EncodedLowRank { rank, v, u }) => StoredTerm::LowRank {
                rank,
                v: self.window(v),
                u: self.window(u),
            },
        }
    }

    fn window(&mut self, stage: EncodedStage) -> StoredWindow {
        let windows = stage.windows.into_iter();
        StoredWindow {
            loss: stage.loss,
            row_scales: self.blob(stage.row_scales),
            windows: windows
                .map(|windows| StoredWindows {
                    table: windows.table,
                    depths: windows.depths,
                    codes: self.blob(windows.codes),
                    scales: self.blob(windows.scales),
                })
                .collect(),
        }
    }

    /// Writes the unit under a temporary name, then renames it to `path`.
    pub(crate) fn write(self, path: &Path) -> Result<Unit, PressError> {
        let header = serde_json::to_vec(&self.sites).expect("plain data serialises");
        let temporary = path.with_extension("tmp");
        let io = |source| PressError::Io {
            path: temporary.clone(),
            source,
        };
        let mut hasher = blake3::Hasher::new();
        let mut file = BufWriter::new(File::create(&temporary).map_err(io)?);
        let mut put = |bytes: &[u8]| {
            hasher.update(bytes);
            file.write_all(bytes)
        };
        put(MAGIC).map_err(io)?;
        put(&(header.len() as u64).to_le_bytes()).map_err(io)?;
        put(&header).map_err(io)?;
        for blob in &self.blobs {
            put(blob).map_err(io)?;
        }
        let hash = hasher.finalize();
        file.write_all(hash.as_bytes()).map_err(io)?;
        file.into_inner()
            .map_err(|e| io(e.into_error()))?
            .sync_all()
            .map_err(io)?;
        os::replace_atomically(&temporary, path)?;
        Ok(Unit::new(path, self.sites, header.len() as u64))
    }
}

impl Unit {
    /// Spans are counted from the first blob in the header, from the start of the file here.
    fn new(path: &Path, mut sites: Vec<StoredSite>, header: u64) -> Self {
        let base = MAGIC.len() as u64 + 8 + header;
        for site in &mut sites {
            site.permutation.offset += base;
            site.signs.offset += base;
            let terms = site.linears.iter_mut().flat_map(|l| &mut l.tiers);
            for span in terms.flatten().flat_map(StoredTerm::spans) {
                span.offset += base;
            }
        }
        Self {
            path: path.to_owned(),
            sites,
        }
    }

    /// Reads a unit that an earlier run finished; `None` if it is absent or damaged.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, PressError> {
        let io = |source| PressError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io(e)),
        };
        let length = file.metadata().map_err(io)?.len();
        let Some(body) = length.checked_sub(HASH_LEN) else {
            return Ok(None);
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader((&mut file).take(body)).map_err(io)?;
        let mut hash = [0; HASH_LEN as usize];
        file.read_exact(&mut hash).map_err(io)?;
        if hasher.finalize() != hash {
            return Ok(None);
        }
        Self::read_header(path).map_err(io)
    }

    fn read_header(path: &Path) -> std::io::Result<Option<Self>> {
        let mut file = File::open(path)?;
        let mut start = [0; 16];
        file.read_exact(&mut start)?;
        let (magic, length) = start.split_at(8);
        let length = u64::from_le_bytes(length.try_into().expect("8 bytes"));
        if magic != MAGIC || length > HEADER_LIMIT {
            return Ok(None);
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header)?;
        Ok(serde_json::from_slice(&header)
            .ok()
            .map(|sites| Self::new(path, sites, length)))
    }
}
