//! Properties of generation, on a model that recites a text.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use lagar_engine::generate::{Sequence, StopStrings};
use lagar_engine::{
    EngineError, GenerateOptions, GenerationConfig, Generator, SamplingOptions, StopReason,
    Tokenizer, TokenizerConfig,
};
use proptest::prelude::*;

const END: u32 = 1;

/// Knows one text by heart: after any of its beginnings the next token is the text's, at its end
/// the end token, and after anything else token 5.
#[derive(Debug)]
struct Reciter {
    text: Vec<u32>,
    cache: Vec<u32>,
    context: usize,
    logits: Vec<f32>,
    /// Lengths of the calls to `extend`.
    calls: Vec<usize>,
    cancel_after: Option<(usize, &'static AtomicBool)>,
}

impl Reciter {
    fn new(text: Vec<u32>) -> Self {
        Self {
            text,
            cache: vec![9; 3],
            context: 10_000,
            logits: Vec::new(),
            calls: Vec::new(),
            cancel_after: None,
        }
    }
}

impl Sequence for &mut Reciter {
    fn len(&self) -> usize {
        self.cache.len()
    }

    fn context(&self) -> usize {
        self.context
    }

    fn truncate(&mut self, len: usize) {
        self.cache.truncate(len);
    }

    fn extend(&mut self, tokens: &[u32], positions: usize) -> Result<&[f32], EngineError> {
        assert!(!tokens.is_empty());
        assert!(
            positions <= 1,
            "without a draft only the last position counts"
        );
        assert!(self.cache.len() + tokens.len() <= self.context);
        self.cache.extend_from_slice(tokens);
        self.calls.push(tokens.len());
        if let Some((calls, flag)) = self.cancel_after {
            flag.store(self.calls.len() >= calls, Ordering::Relaxed);
        }
        let next = match self.text.strip_prefix(self.cache.as_slice()) {
            Some(rest) => rest.first().copied().unwrap_or(END),
            None => 5,
        };
        self.logits = vec![0.0; 300 * positions];
        if positions > 0 {
            self.logits[next as usize] = 1.0;
        }
        Ok(&self.logits)
    }
}

fn tokenizer() -> Tokenizer {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama3");
    let read = |file: &str| std::fs::read(folder.join(file)).unwrap();
    let config = TokenizerConfig::from_json("c", &read("tokenizer_config.json")).unwrap();
    Tokenizer::from_bytes("t", &read("tokenizer.json"), &config).unwrap()
}

fn options() -> GenerateOptions<'static> {
    GenerateOptions {
        eos: &[END],
        ..GenerateOptions::default()
    }
}

const TEXT: &str = "The stones turn 🫒 and the first oil runs green and sharp.";

/// Generates from the first `prompt` tokens of [`TEXT`]; returns the text and the outcome.
fn run(
    reciter: &mut Reciter,
    prompt: usize,
    options: &GenerateOptions<'_>,
) -> (String, lagar_engine::generate::Outcome) {
    let tokenizer = tokenizer();
    let prompt = reciter.text[..prompt].to_vec();
    let mut generator = Generator::new(reciter);
    let mut generation = generator.generate(&tokenizer, &prompt, options).unwrap();
    let mut text = String::new();
    while let Some(piece) = generation.next_piece().unwrap() {
        assert!(!piece.is_empty());
        text.push_str(&piece);
    }
    assert_eq!(generation.next_piece().unwrap(), None);
    (text, generation.finish())
}

fn reciter() -> Reciter {
    Reciter::new(tokenizer().encode(TEXT).unwrap())
}

#[test]
fn the_text_is_what_the_model_says_up_to_the_end_token() {
    let mut reciter = reciter();
    let length = reciter.text.len();
    let (text, outcome) = run(&mut reciter, 3, &options());
    let shown = tokenizer().decode(&reciter.text[..3]).unwrap();
    assert_eq!(shown + &text, TEXT);
    assert_eq!(outcome.stop, StopReason::EndOfText);
    assert_eq!((outcome.prompt_tokens, outcome.reused_tokens), (3, 0));
    assert_eq!(outcome.tokens, reciter.text[3..]);
    // One pass over the prompt, then one for each token.
    assert_eq!(outcome.decoded_tokens, length - 3);
    assert_eq!(reciter.calls, [vec![3], vec![1; length - 3]].concat());
}

#[test]
fn max_tokens_ends_it_and_a_character_that_is_not_complete_is_marked() {
    let mut reciter = reciter();
    let olive = tokenizer().encode("The stones turn ").unwrap().len();
    let limited = GenerateOptions {
        max_tokens: Some(2),
        ..options()
    };
    let (text, outcome) = run(&mut reciter, olive, &limited);
    assert_eq!(outcome.stop, StopReason::MaxTokens);
    assert_eq!(outcome.tokens.len(), 2);
    assert_eq!(text, "\u{FFFD}");
    let none = GenerateOptions {
        max_tokens: Some(0),
        ..options()
    };
    let mut reciter = self::reciter();
    assert_eq!(run(&mut reciter, 3, &none).0, "");
    assert!(reciter.calls.is_empty());
}

#[test]
fn stop_strings_are_cut_off_wherever_the_pieces_end() {
    for (stop, expected) in [
        ("the first oil", " turn 🫒 and "),
        ("t oil r", " turn 🫒 and the firs"),
        ("🫒", " turn "),
        ("sharp.", " turn 🫒 and the first oil runs green and "),
        (
            "sharp.!",
            " turn 🫒 and the first oil runs green and sharp.",
        ),
    ] {
        let mut reciter = reciter();
        let prompt = tokenizer().encode("The stones").unwrap().len();
        let stops = [stop.to_string()];
        let (text, outcome) = run(
            &mut reciter,
            prompt,
            &GenerateOptions {
                stop: &stops,
                ..options()
            },
        );
        assert_eq!(text, expected);
        let stopped = outcome.stop == StopReason::StopString;
        assert_eq!(stopped, !stop.ends_with('!'));
    }
}

#[test]
fn a_full_context_ends_it() {
    let mut reciter = reciter();
    reciter.context = 10;
    let (_, outcome) = run(&mut reciter, 4, &options());
    assert_eq!(outcome.stop, StopReason::ContextFull);
    // The last token needs no place: nothing follows it.
    assert_eq!(outcome.tokens.len(), 7);
}

#[test]
fn a_prompt_that_is_empty_or_too_long_is_refused() {
    let tokenizer = tokenizer();
    let mut reciter = reciter();
    reciter.context = 10;
    let mut generator = Generator::new(&mut reciter);
    let error = generator.generate(&tokenizer, &[], &options()).unwrap_err();
    assert!(matches!(error, EngineError::EmptyPrompt));
    let error = generator
        .generate(&tokenizer, &[3; 11], &options())
        .unwrap_err();
    assert!(matches!(
        error,
        EngineError::ContextExceeded {
            asked: 11,
            context: 10
        }
    ));
}

#[test]
fn cancelling_ends_it_between_tokens_and_within_a_long_prompt() {
    static FLAG: AtomicBool = AtomicBool::new(false);
    let cancellable = GenerateOptions {
        cancel: Some(&FLAG),
        ..options()
    };
    let mut reciter = reciter();
    reciter.cancel_after = Some((3, &FLAG));
    let (_, outcome) = run(&mut reciter, 4, &cancellable);
    assert_eq!(
        (outcome.stop, outcome.tokens.len()),
        (StopReason::Cancelled, 3)
    );

    FLAG.store(false, Ordering::Relaxed);
    let mut reciter = Reciter::new(vec![7; 2000]);
    reciter.cancel_after = Some((2, &FLAG));
    let (text, outcome) = run(&mut reciter, 2000, &cancellable);
    assert_eq!((outcome.stop, text.as_str()), (StopReason::Cancelled, ""));
    assert_eq!(reciter.calls, [512, 512]);
}

#[test]
fn a_prompt_that_goes_on_costs_its_new_tokens_only() {
    let tokenizer = tokenizer();
    let mut reciter = reciter();
    let whole = reciter.text.clone();
    let mut generator = Generator::new(&mut reciter);
    let limited = GenerateOptions {
        max_tokens: Some(4),
        ..options()
    };
    let mut ask = |prompt: &[u32]| {
        let mut generation = generator.generate(&tokenizer, prompt, &limited).unwrap();
        while generation.next_piece().unwrap().is_some() {}
        let outcome = generation.finish();
        assert_eq!(generator.cached()[..prompt.len()], *prompt);
        outcome.reused_tokens
    };
    assert_eq!(ask(&whole[..6]), 0);
    // The prompt and three of the four tokens that followed are there.
    assert_eq!(ask(&whole[..12]), 9);
    // The same again: the last token is computed once more for its logits.
    assert_eq!(ask(&whole[..12]), 11);
    let mut other = whole[..12].to_vec();
    other[5] = 77;
    assert_eq!(ask(&other), 5);
}

#[test]
fn generation_config_gives_end_tokens_and_sampling() {
    let read = |json: &str| GenerationConfig::from_json("generation_config.json", json.as_bytes());
    let config = read(
        r#"{"eos_token_id": [7, 9], "do_sample": true, "temperature": 0.6, "top_k": 20,
            "top_p": 0.9, "repetition_penalty": 1.1, "transformers_version": "4"}"#,
    )
    .unwrap();
    assert_eq!(config.eos, [7, 9]);
    let base = SamplingOptions {
        seed: 3,
        min_p: 0.1,
        ..SamplingOptions::default()
    };
    let expected = SamplingOptions {
        temperature: 0.6,
        top_k: 20,
        top_p: 0.9,
        min_p: 0.1,
        repeat_penalty: 1.1,
        seed: 3,
    };
    assert_eq!(config.sampling(base), expected);
    assert_eq!(read(r#"{"eos_token_id": 2}"#).unwrap().eos, [2]);
    assert_eq!(
        read(r#"{"eos_token_id": null}"#).unwrap(),
        GenerationConfig::default()
    );
    assert_eq!(read("{}").unwrap().sampling(base), base);
    assert!(
        read(r#"{"do_sample": false, "temperature": 0.7}"#)
            .unwrap()
            .sampling(base)
            .is_greedy()
    );
    for wrong in [
        r#"{"eos_token_id": -1}"#,
        r#"{"eos_token_id": [1, "a"]}"#,
        r#"{"top_k": 0.5}"#,
        r#"{"temperature": "warm"}"#,
    ] {
        let error = read(wrong).unwrap_err();
        assert!(matches!(error, EngineError::Config { .. }), "{error}");
    }
    assert!(matches!(read("[]"), Err(EngineError::Json { .. })));
}

/// The plain definition: cut before the stop string that is complete first, the longest of those.
fn cut(text: &str, stops: &[String]) -> String {
    for end in (1..=text.len()).filter(|&end| text.is_char_boundary(end)) {
        let shown = &text[..end];
        let found = stops
            .iter()
            .filter(|stop| !stop.is_empty() && shown.ends_with(*stop));
        if let Some(longest) = found.map(String::len).max() {
            return text[..end - longest].to_string();
        }
    }
    text.to_string()
}

proptest! {
    #[test]
    fn stop_strings_cut_by_the_plain_definition_and_hold_back_no_more_than_needed(
        text in "[abé]{0,20}",
        stops in proptest::collection::vec("[abé]{0,4}", 0..4),
        cuts in proptest::collection::vec(0_usize..20, 0..6),
    ) {
        let mut matcher = StopStrings::new(&stops);
        let mut borders: Vec<usize> =
            cuts.into_iter().filter(|&at| text.is_char_boundary(at.min(text.len()))).map(|at| at.min(text.len())).collect();
        borders.extend([0, text.len()]);
        borders.sort_unstable();
        let mut shown = String::new();
        for pair in borders.windows(2) {
            shown += &matcher.push(&text[pair[0]..pair[1]]);
            let so_far = cut(&text[..pair[1]], &stops);
            prop_assert!(so_far.starts_with(&shown));
            if !matcher.stopped() {
                let withheld = &so_far[shown.len()..];
                let begins = stops.iter().any(|stop| stop.starts_with(withheld));
                prop_assert!(withheld.is_empty() || begins, "{withheld} withheld");
            }
        }
        if !matcher.stopped() {
            shown += &matcher.finish();
        }
        prop_assert_eq!(shown, cut(&text, &stops));
    }
}
