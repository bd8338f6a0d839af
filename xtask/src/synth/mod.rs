//! Models with random weights in any shape: a checkpoint to press, a pressed file to time.

mod checkpoint;
mod pressed;
mod shape;
mod tokenizer;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use shape::Shape;

/// Write a bf16 Hugging Face checkpoint with random weights
///
/// The same shape and seed give the same bytes. Memory use does not depend on the size.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask synth-checkpoint")]
struct CheckpointArgs {
    /// Folder to write; what it holds is overwritten
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    #[command(flatten)]
    shape: Shape,
    /// Tokenizer to copy (tokenizer.json, or a folder with it) instead of a made-up one
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// Start another safetensors file where one would exceed this many MB [default: one file]
    #[arg(long, value_name = "MB")]
    shard_size: Option<u64>,
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Write a pressed file of random codes, for measuring speed
///
/// It runs like a real one and says nothing sensible. Needs its own size again on disk while it is
/// written.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask synth-pressed")]
struct PressedArgs {
    /// File to write
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    shape: Shape,
    /// Bits per weight of each stage; more than one make the tiers R, RG and RGB
    #[arg(long, value_name = "K,…", value_delimiter = ',', default_value = "2",
          value_parser = clap::value_parser!(u8).range(1..=8))]
    bits: Vec<u8>,
    /// Tokenizer to store (tokenizer.json, or a folder with it) instead of a made-up one
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Runs `synth-checkpoint`.
pub(crate) fn checkpoint(options: &[String]) -> Result<()> {
    let arguments = CheckpointArgs::parse_from(with_name("synth-checkpoint", options));
    let files = tokenizer::files(arguments.tokenizer.as_deref(), arguments.shape.vocabulary())?;
    let shard_bytes = arguments
        .shard_size
        .map_or(u64::MAX, |mb| mb.saturating_mul(1_000_000));
    checkpoint::write(
        &arguments.folder,
        &arguments.shape,
        &files,
        shard_bytes,
        arguments.seed,
    )
}

/// Runs `synth-pressed`.
pub(crate) fn pressed(options: &[String]) -> Result<()> {
    let arguments = PressedArgs::parse_from(with_name("synth-pressed", options));
    let files = tokenizer::files(arguments.tokenizer.as_deref(), arguments.shape.vocabulary())?;
    pressed::write(
        &arguments.file,
        &arguments.shape,
        &files,
        &arguments.bits,
        arguments.seed,
    )
}

fn with_name<'a>(name: &'a str, options: &'a [String]) -> impl Iterator<Item = &'a str> {
    std::iter::once(name).chain(options.iter().map(String::as_str))
}

/// A small file of a model: its name and content.
type SmallFile = (&'static str, Vec<u8>);

#[cfg(test)]
mod tests {
    use super::*;
    use lagar_engine::{Checkpoint, Model, ModelOptions, NoObserver, Tokenizer, TokenizerConfig};
    use lagar_format::{Container, Limits};
    use lagar_kernels::{Cpu, Isa};
    use std::path::Path;

    fn run(command: fn(&[String]) -> Result<()>, path: &Path, options: &[&str]) {
        let all = [&[path.to_str().unwrap()], options].concat();
        command(&all.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    }

    fn tensors(checkpoint: &Checkpoint) -> Vec<(String, Vec<u8>)> {
        let names: Vec<String> = checkpoint.names().map(str::to_string).collect();
        let bytes = |name: &String| checkpoint.tensor(name).unwrap().region().to_vec();
        names
            .iter()
            .map(|name| (name.clone(), bytes(name)))
            .collect()
    }

    #[test]
    fn a_checkpoint_opens_and_depends_on_its_seed_alone() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str, options: &[&str]| {
            let path = folder.path().join(name);
            run(
                checkpoint,
                &path,
                &[&["--preset", "tiny"], options].concat(),
            );
            Checkpoint::open(path).unwrap()
        };
        let one = open("one", &[]);
        let sharded = open("sharded", &["--shard-size", "0"]);
        assert!(
            folder
                .path()
                .join("sharded/model.safetensors.index.json")
                .exists()
        );
        assert_eq!(tensors(&one), tensors(&sharded));
        assert_ne!(tensors(&one), tensors(&open("other", &["--seed", "2"])));
        let tied = open("tied", &["--tied", "--layers", "1", "--hidden", "80"]);
        assert!(tied.names().all(|name| name != "lm_head.weight"));

        let config = TokenizerConfig::from_json("c", one.file("tokenizer_config.json").unwrap());
        let json = one.file("tokenizer.json").unwrap();
        let tokenizer = Tokenizer::from_bytes("t", json, &config.unwrap()).unwrap();
        tokenizer.check_vocabulary(one.spec().vocabulary).unwrap();
    }

    #[test]
    fn a_pressed_file_is_sound_in_any_shape_and_depth() {
        let folder = tempfile::tempdir().unwrap();
        for (number, options) in [
            &["--bits", "2,2,1"][..],
            &["--bits", "8"],
            &[
                "--bits",
                "3",
                "--tied",
                "--hidden",
                "72",
                "--heads",
                "6",
                "--kv-heads",
                "3",
            ],
        ]
        .into_iter()
        .enumerate()
        {
            let path = folder.path().join(format!("{number}.lagar"));
            run(pressed, &path, &[&["--preset", "tiny"], options].concat());
            let container = Container::open(&path, &Limits::default()).unwrap();
            let last = container.tiers_complete() - 1;
            container.check(last, |_, _| {}).unwrap();
            let model = Model::from_container(container, None, &ModelOptions::default()).unwrap();
            let mut session = model.session(8).unwrap();
            let cpu = Cpu::new(Isa::best(), 1);
            let logits = model.next_logits(&cpu, &mut session, &[0, 70, 80], &mut NoObserver);
            let logits = logits.unwrap();
            let square: f32 = logits.iter().map(|logit| logit * logit).sum();
            let deviation = (square / logits.len() as f32).sqrt();
            assert!(
                (0.1..10.0).contains(&deviation),
                "logits' deviation {deviation}"
            );
            let again = folder.path().join("again.lagar");
            run(pressed, &again, &[&["--preset", "tiny"], options].concat());
            assert_eq!(
                std::fs::read(&path).unwrap(),
                std::fs::read(&again).unwrap()
            );
        }
        // Nothing but the files is left.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4);
    }
}
