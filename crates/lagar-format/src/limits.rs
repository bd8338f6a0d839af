//! What a reader is willing to take from a file.

/// Upper bounds on what a file may ask a reader to allocate or walk through.
///
/// The defaults leave room for models of several hundred billion parameters; a file beyond them is
/// refused with an error that names the limit. All fields are public: raise or lower them at will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the compressed index.
    pub index_stored_bytes: u64,
    /// Bytes of the index as JSON.
    pub index_raw_bytes: u64,
    /// Number of tiers.
    pub tiers: usize,
    /// Number of parts.
    pub parts: usize,
    /// Number of tensors.
    pub tensors: usize,
    /// Number of level tables.
    pub tables: usize,
    /// Number of input transforms.
    pub transforms: usize,
    /// Number of stored files, and of source files.
    pub files: usize,
    /// Bytes of one stored file after decompression.
    pub file_raw_bytes: u64,
    /// Bytes of a name or another short text of the index.
    pub text_bytes: usize,
    /// Number of dimensions of a tensor.
    pub dimensions: usize,
    /// Number of elements of a tensor.
    pub elements: u64,
    /// Width of an input transform.
    pub width: u64,
    /// Number of stages of a tensor.
    pub stages: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            index_stored_bytes: 64 << 20,
            index_raw_bytes: 128 << 20,
            tiers: 16,
            parts: 1 << 20,
            tensors: 1 << 18,
            tables: 1 << 16,
            transforms: 1 << 18,
            files: 4096,
            file_raw_bytes: 256 << 20,
            text_bytes: 4096,
            dimensions: 8,
            elements: 1 << 40,
            width: 1 << 24,
            stages: 16,
        }
    }
}
