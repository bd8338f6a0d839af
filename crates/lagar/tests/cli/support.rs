//! Starting the program, and small checkpoints to start it on.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// What a finished run left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
        }
    }
}

impl Finished {
    /// Asserts success, and gives stdout.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// Asserts success, and gives the object on stdout.
    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        let stdout = self.ok();
        serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stdout}"))
    }

    /// Asserts a failure as every failure should be: this exit code, nothing on stdout, one line
    /// `error: …` with all of `words` in it, and no panic.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        let errors: Vec<_> = self
            .stderr
            .lines()
            .filter(|l| l.starts_with("error: "))
            .collect();
        assert_eq!(errors.len(), 1, "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        for word in words {
            assert!(errors[0].contains(word), "no {word:?} in {:?}", errors[0]);
        }
    }
}

/// The program with `args`, on two threads and without anything of the tester's environment that matters.
pub(crate) fn command<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lagar"));
    command
        .args(args)
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE")
        .stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub(crate) fn lagar<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Finished {
    command(args).output().expect("the program starts").into()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The demo's model.
pub(crate) fn novels() -> String {
    text(&repository().join("assets/novels4m"))
}

/// Text that the demo's model has not seen.
pub(crate) fn evaluation_text() -> String {
    text(&repository().join("assets/text/evaluation.txt"))
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("test paths are UTF-8").to_owned()
}

/// A folder with a tiny checkpoint of random weights, `model`, that a test may damage.
#[derive(Debug)]
pub(crate) struct Tiny {
    folder: TempDir,
}

impl Tiny {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let model = folder.path().join("model");
        std::fs::create_dir(&model).unwrap();
        let source = repository().join("crates/lagar-engine/tests/fixtures/llama3");
        for name in [
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        ] {
            std::fs::write(model.join(name), std::fs::read(source.join(name)).unwrap()).unwrap();
        }
        let tiny = Self { folder };
        std::fs::write(tiny.path("text.txt"), "The owl hunts at dusk. ".repeat(200)).unwrap();
        tiny
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A path in the folder, as an argument.
    pub(crate) fn arg(&self, name: &str) -> String {
        text(&self.path(name))
    }

    /// The checkpoint.
    pub(crate) fn model(&self) -> String {
        self.arg("model")
    }

    /// Presses the checkpoint into `name`.
    pub(crate) fn press(&self, name: &str) -> Finished {
        lagar([
            "press",
            &self.model(),
            "-o",
            &self.arg(name),
            "--bits",
            "4",
            "--text",
            &self.arg("text.txt"),
        ])
    }

    /// Presses the checkpoint into `name`, with these tiers.
    pub(crate) fn press_tiers(&self, name: &str, tiers: &str) -> Finished {
        let (file, text) = (self.arg(name), self.arg("text.txt"));
        let model = self.model();
        lagar([
            "press", &model, "-o", &file, "--text", &text, "--tiers", tiers,
        ])
    }

    /// Asserts that nothing is under this name.
    #[track_caller]
    pub(crate) fn absent(&self, name: &str) {
        assert!(!self.path(name).exists(), "{name} was written");
    }

    /// Changes a file of the checkpoint.
    pub(crate) fn edit(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.path("model").join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    }

    /// Replaces text in a file of the checkpoint; the text is there.
    pub(crate) fn replace(&self, name: &str, from: &str, to: &str) {
        self.edit(name, |bytes| {
            let text = String::from_utf8(std::mem::take(bytes)).unwrap();
            assert!(text.contains(from), "{from} is not in {name}");
            *bytes = text.replacen(from, to, 1).into_bytes();
        });
    }

    /// Changes the tensors of the checkpoint: `change` gets the header and the bytes behind it.
    pub(crate) fn edit_tensors(
        &self,
        change: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>, &mut Vec<u8>),
    ) {
        self.edit("model.safetensors", |bytes| {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let mut header: serde_json::Map<_, _> =
                serde_json::from_slice(&bytes[8..8 + length]).unwrap();
            let mut data = bytes.split_off(8 + length);
            change(&mut header, &mut data);
            let header = serde_json::to_vec(&header).unwrap();
            *bytes = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
        });
    }
}
