//! Trained models: the loss and the text that their makers state.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use lagar_engine::{Model, ModelOptions, NoObserver};
use lagar_kernels::{Cpu, Isa};

/// Positions of a window, BOS included.
const CONTEXT: usize = 256;

/// Mean loss, in nats, over the first tokens of a text, cut into windows that do not overlap; the
/// first token of a window is not scored.
fn loss(cpu: &Cpu, model: &Model, text: &str, tokens: usize) -> f64 {
    let tokenizer = model.tokenizer();
    let mut text = tokenizer.encode_plain(text).unwrap();
    text.truncate(tokens);
    assert_eq!(text.len(), tokens, "the text is long enough");
    let bos = tokenizer.added_bos();
    let vocabulary = model.spec().vocabulary;
    let mut session = model.session(CONTEXT).unwrap();
    let mut logits = vec![0.0; CONTEXT * vocabulary];
    let (mut sum, mut scored) = (0.0, 0);
    for text in text.chunks(CONTEXT - usize::from(bos.is_some())) {
        if text.len() < 2 {
            continue;
        }
        let window: Vec<u32> = bos.into_iter().chain(text.iter().copied()).collect();
        session.truncate(0);
        let hidden = model
            .forward(cpu, &mut session, &window, &mut NoObserver)
            .unwrap();
        let logits = &mut logits[..window.len() * vocabulary];
        model.logits(cpu, hidden, window.len(), logits).unwrap();
        let n = window.len() - 1;
        sum += mean_loss(logits, vocabulary, &window[1..]) * n as f64;
        scored += n;
    }
    sum / scored as f64
}

/// Mean of −log of the next tokens' probabilities, in nats.
fn mean_loss(logits: &[f32], vocabulary: usize, next: &[u32]) -> f64 {
    let pairs = logits.chunks(vocabulary).zip(next);
    let losses = pairs.map(|(logits, next)| {
        let largest = logits.iter().copied().fold(f32::MIN, f32::max);
        let exps = logits.iter().map(|l| f64::from(l - largest).exp());
        exps.sum::<f64>().ln() - f64::from(logits[*next as usize] - largest)
    });
    losses.sum::<f64>() / next.len() as f64
}

/// The text that follows a prompt when the most likely token is always taken.
fn greedy(cpu: &Cpu, model: &Model, prompt: &str, tokens: usize) -> String {
    let tokenizer = model.tokenizer();
    let prompt = tokenizer.encode(prompt).unwrap();
    let mut session = model.session(prompt.len() + tokens).unwrap();
    let mut text = prompt.clone();
    let mut pending = prompt.clone();
    for _ in 0..tokens {
        let logits = model
            .next_logits(cpu, &mut session, &pending, &mut NoObserver)
            .unwrap();
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        pending = vec![best.unwrap().0 as u32];
        text.extend(&pending);
    }
    let (before, after) = (tokenizer.decode(&prompt), tokenizer.decode(&text));
    let (before, after) = (before.unwrap(), after.unwrap());
    after.strip_prefix(&before).unwrap().to_owned()
}

fn open(folder: &Path) -> (Cpu, Model) {
    let model = Model::open(folder, None, &ModelOptions::default()).unwrap();
    (Cpu::new(Isa::best(), 2), model)
}

fn assets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets")
}

/// The folder of larger test data; says so where there is none.
fn test_data(test: &str) -> Option<PathBuf> {
    let folder = env::var_os("LAGAR_TEST_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    if folder.is_dir() {
        return Some(folder);
    }
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    {
        eprintln!(
            "{test}: skipped, no test data at {} (set LAGAR_TEST_DATA)",
            folder.display()
        );
    }
    None
}

#[test]
fn novels4m_has_its_loss_and_its_voice() {
    let (cpu, model) = open(&assets().join("novels4m"));
    let text = fs::read_to_string(assets().join("text/evaluation.txt")).unwrap();
    let loss = loss(&cpu, &model, &text, 12_288);
    assert!((loss - 3.2244).abs() < 1e-4, "{loss}");
    let continuation = greedy(&cpu, &model, "It was a fine morning, and", 40);
    let expected =
        " the captain was a little boy, and the boy was a little boy, and he was a little boy";
    assert!(continuation.starts_with(expected), "{continuation}");
}

#[test]
fn stories260k_has_its_loss_and_its_voice() {
    let Some(data) = test_data("stories260k_has_its_loss_and_its_voice") else {
        return;
    };
    let (cpu, model) = open(&data.join("models/stories260k"));
    let text = fs::read_to_string(data.join("text/tiny.utf8")).unwrap();
    let loss = loss(&cpu, &model, &text, 20_480);
    assert!((loss - 2.0296).abs() < 1e-4, "{loss}");
    let continuation = greedy(&cpu, &model, "Once upon a time", 60);
    let expected = ", there was a little girl named Lily. She loved to play outside in the park.";
    assert!(continuation.starts_with(expected), "{continuation}");
}

#[test]
fn the_whole_texts_have_their_losses() {
    let Some(data) = test_data("the_whole_texts_have_their_losses") else {
        return;
    };
    let (cpu, model) = open(&data.join("models/novels4m"));
    let text = fs::read_to_string(data.join("text/novels-val.txt")).unwrap();
    let tokens = model.tokenizer().encode_plain(&text).unwrap().len();
    let whole = loss(&cpu, &model, &text, tokens);
    assert!((whole - 3.3111).abs() < 1e-4, "{whole}");

    let (cpu, model) = open(&data.join("models/stories260k"));
    let text = fs::read_to_string(data.join("text/tiny.utf8")).unwrap();
    let (mut sum, mut scored) = (0.0, 0);
    let stories = text.split("<|endoftext|>").map(str::trim);
    for story in stories.filter(|story| story.len() > 200).take(20) {
        let tokens = model.tokenizer().encode_plain(story).unwrap();
        let n = tokens.len().min(511);
        let decoded = story_loss(&cpu, &model, &tokens[..n]);
        sum += decoded * n as f64;
        scored += n;
    }
    let mean = sum / scored as f64;
    assert!((mean - 1.273).abs() < 1e-3, "{mean}");
}

/// Mean loss of all tokens of one story after BOS.
fn story_loss(cpu: &Cpu, model: &Model, tokens: &[u32]) -> f64 {
    let bos = model.tokenizer().bos().unwrap();
    let window: Vec<u32> = [bos].into_iter().chain(tokens.iter().copied()).collect();
    let vocabulary = model.spec().vocabulary;
    let mut session = model.session(window.len()).unwrap();
    let hidden = model
        .forward(cpu, &mut session, &window, &mut NoObserver)
        .unwrap();
    let mut logits = vec![0.0; window.len() * vocabulary];
    model
        .logits(cpu, hidden, window.len(), &mut logits)
        .unwrap();
    mean_loss(&logits, vocabulary, &window[1..])
}
