//! Folders as maps from names to bytes, and folders of safetensors with any content.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;

pub(crate) type Tree = BTreeMap<String, Vec<u8>>;

/// All files of a folder and those below it.
pub(crate) fn tree(folder: &Path) -> Tree {
    fn visit(folder: &Path, prefix: &str, tree: &mut Tree) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            if entry.path().is_dir() {
                visit(&entry.path(), &format!("{name}/"), tree);
            } else {
                tree.insert(name, fs::read(entry.path()).unwrap());
            }
        }
    }
    let mut found = Tree::new();
    visit(folder, "", &mut found);
    found
}

/// Writes a folder.
pub(crate) fn plant(folder: &Path, tree: &Tree) {
    for (name, bytes) in tree {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Names in a folder, temporary ones too.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<String> = entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Safetensors types and the bytes of an element.
const TYPES: [(&str, usize); 15] = [
    ("BOOL", 1),
    ("U8", 1),
    ("I8", 1),
    ("F8_E5M2", 1),
    ("F8_E4M3", 1),
    ("U16", 2),
    ("I16", 2),
    ("F16", 2),
    ("BF16", 2),
    ("U32", 4),
    ("I32", 4),
    ("F32", 4),
    ("U64", 8),
    ("I64", 8),
    ("F64", 8),
];

/// What a tensor's bytes look like.
#[derive(Debug, Clone, Copy)]
enum Look {
    Random,
    Constant,
    /// As trained weights: random in the low bits of an element, few values in its highest byte.
    Weights,
}

/// A tensor by its type, shape and look.
type Tensor = (usize, Vec<usize>, Look, u64);

fn bytes_of(&(ty, ref shape, look, seed): &Tensor) -> Vec<u8> {
    let size = TYPES[ty].1;
    let mut state = seed | 1;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..shape.iter().product::<usize>() * size)
        .map(|at| match look {
            Look::Random => random(),
            Look::Constant => seed as u8,
            Look::Weights if at % size == size - 1 => 0x3c | random() & 0x81,
            Look::Weights => random(),
        })
        .collect()
}

/// A safetensors file of these tensors, with so much whitespace behind its header.
fn safetensors(tensors: &[Tensor], spaces: usize) -> Vec<u8> {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (number, tensor) in tensors.iter().enumerate() {
        let start = data.len();
        data.extend(bytes_of(tensor));
        let (dtype, shape) = (TYPES[tensor.0].0, &tensor.1);
        entries.push(format!(
            r#""{}t{number}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{}]}}"#,
            ["", "model."][number % 2],
            data.len()
        ));
    }
    // Not in the order of the bytes.
    entries.reverse();
    entries.push(r#""__metadata__":{"format":"pt"}"#.to_owned());
    let mut header = format!("{{{}}}", entries.join(", ")).into_bytes();
    header.resize(header.len() + spaces, b' ');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    file
}

/// Folders of a few safetensors files, some below others, and other files.
pub(crate) fn any_folder() -> impl Strategy<Value = Tree> {
    let shape = prop_oneof![
        Just(Vec::new()),
        prop::collection::vec(0..4usize, 1..4),
        prop::collection::vec(1..70usize, 2..3),
        prop::collection::vec(1..12usize, 3..5),
    ];
    let look = prop_oneof![
        Just(Look::Random),
        Just(Look::Constant),
        Just(Look::Weights)
    ];
    let tensor = (0..TYPES.len(), shape, look, 0..4u64);
    let weights = (prop::collection::vec(tensor, 0..6), 0..9usize)
        .prop_map(|(tensors, spaces)| safetensors(&tensors, spaces));
    let other = prop::collection::vec(0..4u8, 0..3000);
    (
        prop::collection::vec(weights, 1..4),
        prop::collection::vec(other, 0..3),
    )
        .prop_map(|(weights, others)| {
            let mut tree = Tree::new();
            for (number, bytes) in weights.into_iter().enumerate() {
                let folder = ["", "sub/", "sub/deeper/"][number % 3];
                tree.insert(format!("{folder}model-{number}.safetensors"), bytes);
            }
            for (number, bytes) in others.into_iter().enumerate() {
                let name = ["tokenizer.json", "sub/LICENSE", "a b.txt"][number % 3];
                tree.insert(name.to_owned(), bytes);
            }
            tree
        })
}
