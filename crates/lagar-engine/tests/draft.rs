//! Drafting changes nothing but the number of passes, whatever the models, the options and the
//! lengths of the drafts are.

use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use lagar_engine::generate::{DraftLength, Outcome, Sequence};
use lagar_engine::{
    EngineError, GenerateOptions, Generator, SamplingOptions, StopReason, Tokenizer,
    TokenizerConfig,
};
use proptest::prelude::*;

const VOCABULARY: u32 = 300;

/// A model of noise: its logits depend on the last three tokens. Models of another `accent` agree
/// as far as `deviation` leaves what they have in common.
#[derive(Clone, Debug)]
struct Noise {
    accent: u64,
    deviation: f32,
    context: usize,
    cache: Vec<u32>,
    logits: Vec<f32>,
    /// Lengths of the calls to `extend`, and the positions that were asked for.
    calls: Vec<(usize, usize)>,
    cancel_after: Option<(usize, &'static AtomicBool)>,
    /// From this length on its logits are no numbers.
    broken_from: usize,
}

impl Noise {
    fn new(accent: u64, deviation: f32) -> Self {
        Self {
            accent,
            deviation,
            context: 10_000,
            cache: vec![9; 3],
            logits: Vec::new(),
            calls: Vec::new(),
            cancel_after: None,
            broken_from: usize::MAX,
        }
    }

    /// The logits after `before`.
    fn follow(&self, before: &[u32]) -> impl Iterator<Item = f32> {
        let last = before.iter().rev().take(3);
        let state = last.fold(before.len().min(3) as u64, |state, &token| {
            mix(state ^ u64::from(token))
        });
        let (accent, deviation) = (mix(state ^ self.accent), self.deviation);
        let broken = before.len() >= self.broken_from;
        (0..u64::from(VOCABULARY)).map(move |token| {
            let unit = |hash: u64| (hash >> 40) as f32 / (1 << 24) as f32;
            let logit = 6.0 * unit(mix(state ^ token)) + deviation * unit(mix(accent ^ token));
            if broken { f32::NAN } else { logit }
        })
    }
}

/// SplitMix64's finish.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Sequence for &mut Noise {
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
        assert!(!tokens.is_empty() && positions <= tokens.len());
        assert!(self.cache.len() + tokens.len() <= self.context);
        self.cache.extend_from_slice(tokens);
        self.calls.push((tokens.len(), positions));
        if let Some((calls, flag)) = self.cancel_after {
            flag.store(self.calls.len() >= calls, Ordering::Relaxed);
        }
        let ends = self.cache.len() + 1 - positions..=self.cache.len();
        self.logits = ends
            .flat_map(|end| self.follow(&self.cache[..end]))
            .collect();
        Ok(&self.logits)
    }
}

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama3");
    let read = |file: &str| std::fs::read(folder.join(file)).unwrap();
    let config = TokenizerConfig::from_json("c", &read("tokenizer_config.json")).unwrap();
    Tokenizer::from_bytes("t", &read("tokenizer.json"), &config).unwrap()
});

/// Generates to the end.
fn finish<S: Sequence>(
    generator: &mut Generator<S>,
    prompt: &[u32],
    options: &GenerateOptions<'_>,
) -> Result<(String, Outcome), EngineError> {
    let mut generation = generator.generate(&TOKENIZER, prompt, options)?;
    let mut text = String::new();
    while let Some(piece) = generation.next_piece()? {
        assert!(!piece.is_empty());
        text.push_str(&piece);
    }
    Ok((text, generation.finish()))
}

fn sampling() -> impl Strategy<Value = SamplingOptions> {
    let sampled = (
        0.1_f32..2.0,
        prop_oneof![Just(0), 1..60_usize],
        prop_oneof![Just(1.0), 0.3_f32..1.0],
        prop_oneof![Just(0.0), 0.0_f32..0.3],
        any::<u64>(),
    )
        .prop_map(|(temperature, top_k, top_p, min_p, seed)| SamplingOptions {
            temperature,
            top_k,
            top_p,
            min_p,
            seed,
            ..SamplingOptions::default()
        });
    let penalty = prop_oneof![Just(1.0), 0.8_f32..1.5];
    (prop_oneof![Just(SamplingOptions::GREEDY), sampled], penalty).prop_map(|(options, penalty)| {
        SamplingOptions {
            repeat_penalty: penalty,
            ..options
        }
    })
}

/// What a turn of a chat is asked for.
#[derive(Clone, Debug)]
struct Turn {
    said: Vec<u32>,
    sampling: SamplingOptions,
    max_tokens: Option<usize>,
    stop: Vec<String>,
    eos: Vec<u32>,
}

fn turn() -> impl Strategy<Value = Turn> {
    (
        proptest::collection::vec(0..VOCABULARY, 1..12),
        sampling(),
        prop_oneof![3 => (0..40_usize).prop_map(Some), 1 => Just(None)],
        proptest::collection::vec("[a-e]{1,2}", 0..2),
        proptest::collection::vec(0..VOCABULARY, 0..12),
    )
        .prop_map(|(said, sampling, max_tokens, stop, eos)| Turn {
            said,
            sampling,
            max_tokens,
            stop,
            eos,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Chats of up to three turns: the same tokens, texts and reasons to stop; numbers that add up;
    /// caches that hold what they are said to hold.
    #[test]
    fn a_drafted_text_is_the_text_of_the_target_alone(
        turns in proptest::collection::vec(turn(), 1..4),
        deviation in prop_oneof![Just(0.0_f32), 0.1_f32..0.6, Just(20.0)],
        schedule in proptest::collection::vec(0..12_usize, 1..5),
        adaptive in proptest::bool::weighted(0.1),
        context in 30..140_usize,
        draft_context in prop_oneof![4 => Just(10_000_usize), 1 => 5..100_usize],
        broken_from in prop_oneof![8 => Just(usize::MAX), 1 => 0..100_usize],
    ) {
        let mut alone = Noise { context, ..Noise::new(1, 0.3) };
        let mut target = alone.clone();
        let mut draft = Noise { context: draft_context, broken_from, ..Noise::new(2, deviation) };
        let mut plain = Generator::new(&mut alone);
        let mut drafted = Generator::new(&mut target);
        let length = if adaptive { DraftLength::Adaptive } else { DraftLength::Scheduled(schedule) };
        drafted.set_draft(Some(&mut draft), length);
        let mut conversation = Vec::new();
        for turn in turns {
            conversation.extend(&turn.said);
            let options = GenerateOptions {
                sampling: turn.sampling,
                max_tokens: turn.max_tokens,
                stop: &turn.stop,
                eos: &turn.eos,
                cancel: None,
            };
            let (Ok(expected), Ok(got)) = (
                finish(&mut plain, &conversation, &options),
                finish(&mut drafted, &conversation, &options),
            ) else {
                // Too long for the context: for both.
                prop_assert!(conversation.len() > context);
                break;
            };
            prop_assert_eq!(&got.0, &expected.0);
            let (got, expected) = (got.1, expected.1);
            prop_assert_eq!(&got.tokens, &expected.tokens);
            prop_assert_eq!(got.stop, expected.stop);
            prop_assert_eq!(got.decoded_tokens, expected.decoded_tokens);
            prop_assert_eq!(expected.full_passes, expected.decoded_tokens);
            prop_assert!(got.accepted <= got.drafted);
            // Every pass adds one token to those accepted, unless an accepted one ends the text.
            let cut = got.accepted + got.full_passes - got.decoded_tokens;
            prop_assert!(cut == 0 || cut == 1 && got.stop == StopReason::StopString);
            prop_assert!(got.reused_tokens >= expected.reused_tokens);

            conversation.extend(&got.tokens);
            let cached = drafted.cached();
            prop_assert!(conversation.starts_with(cached));
            prop_assert!(got.tokens.is_empty() || cached.len() + 1 >= conversation.len());
        }
        let cached = drafted.cached().to_vec();
        drop(drafted);
        prop_assert_eq!(&target.cache, &cached);
        prop_assert!(cached.starts_with(&draft.cache));
        // Of a batch, only the logits that are judged are asked for.
        prop_assert!(target.calls.iter().all(|&(n, positions)| positions <= 1 || positions == n));
    }
}

const PROMPT: [u32; 4] = [7, 70, 170, 250];

#[test]
fn a_draft_that_is_always_right_needs_few_passes() {
    let (mut target, mut draft) = (Noise::new(1, 0.3), Noise::new(1, 0.3));
    let mut generator = Generator::new(&mut target);
    generator.set_draft(Some(&mut draft), DraftLength::Scheduled(vec![7]));
    let options = GenerateOptions {
        max_tokens: Some(41),
        ..GenerateOptions::default()
    };
    let (_, outcome) = finish(&mut generator, &PROMPT, &options).unwrap();
    assert_eq!((outcome.full_passes, outcome.decoded_tokens), (5, 40));
    assert_eq!((outcome.drafted, outcome.accepted), (35, 35));
    assert_eq!(outcome.tokens_per_pass(), Some(8.0));
    drop(generator);
    // The prompt, then five drafts with the token before each.
    assert_eq!(
        target.calls,
        [vec![(4, 1)], [(8, 8)].repeat(5)].concat(),
        "all are judged in one pass"
    );
    // It catches up with the prompt once, and then with the last two tokens of each round.
    let firsts: Vec<usize> = draft.calls.iter().step_by(7).map(|call| call.0).collect();
    assert_eq!(firsts, [5, 2, 2, 2, 2]);
}

#[test]
fn no_more_is_drafted_than_can_be_used() {
    for max_tokens in 1..6 {
        let (mut target, mut draft) = (Noise::new(1, 0.3), Noise::new(1, 0.3));
        target.context = 8;
        let mut generator = Generator::new(&mut target);
        generator.set_draft(Some(&mut draft), DraftLength::Scheduled(vec![20]));
        let options = GenerateOptions {
            max_tokens: Some(max_tokens),
            ..GenerateOptions::default()
        };
        let (_, outcome) = finish(&mut generator, &PROMPT, &options).unwrap();
        let expected = max_tokens.min(5);
        assert_eq!(outcome.tokens.len(), expected);
        // The first token comes from the prompt's pass, the last from the pass over the draft.
        assert_eq!(outcome.drafted, expected.saturating_sub(2));
    }
}

#[test]
fn a_draft_ends_before_an_end_token() {
    let mut alone = Noise::new(1, 0.3);
    let limited = GenerateOptions {
        max_tokens: Some(10),
        ..GenerateOptions::default()
    };
    let (_, outcome) = finish(&mut Generator::new(&mut alone), &PROMPT, &limited).unwrap();
    let end = outcome.tokens[6];
    let before = outcome.tokens.iter().position(|&t| t == end).unwrap();
    let (mut target, mut draft) = (Noise::new(1, 0.3), Noise::new(1, 0.3));
    let mut generator = Generator::new(&mut target);
    generator.set_draft(Some(&mut draft), DraftLength::Scheduled(vec![20]));
    let options = GenerateOptions {
        eos: &[end],
        ..GenerateOptions::default()
    };
    let (_, outcome) = finish(&mut generator, &PROMPT, &options).unwrap();
    assert_eq!(outcome.stop, StopReason::EndOfText);
    assert_eq!(outcome.tokens.len(), before);
    assert_eq!((outcome.full_passes, outcome.drafted), (1, before - 1));
    assert_eq!(outcome.decoded_tokens, before);
    assert_eq!(generator.cached().len(), PROMPT.len() + before);
}

/// Wherever it is cancelled, in the draft or between passes, what was made is a beginning of the
/// text, and the text can go on.
#[test]
fn cancelling_within_a_draft_leaves_everything_consistent() {
    static FLAG: AtomicBool = AtomicBool::new(false);
    let options = GenerateOptions {
        max_tokens: Some(30),
        cancel: Some(&FLAG),
        ..GenerateOptions::default()
    };
    FLAG.store(false, Ordering::Relaxed);
    let mut alone = Noise::new(1, 0.3);
    let (_, expected) = finish(&mut Generator::new(&mut alone), &PROMPT, &options).unwrap();
    for calls in 1..20 {
        FLAG.store(false, Ordering::Relaxed);
        let (mut target, mut draft) = (Noise::new(1, 0.3), Noise::new(2, 0.3));
        draft.cancel_after = Some((calls, &FLAG));
        let mut generator = Generator::new(&mut target);
        generator.set_draft(Some(&mut draft), DraftLength::Scheduled(vec![5]));
        let (_, outcome) = finish(&mut generator, &PROMPT, &options).unwrap();
        assert_eq!(outcome.stop, StopReason::Cancelled);
        assert!(expected.tokens.starts_with(&outcome.tokens));
        // As far as the draft goes on to raise the flag, every turn is cancelled; without it none.
        FLAG.store(false, Ordering::Relaxed);
        generator.set_draft(None, DraftLength::Adaptive);
        let said = [&PROMPT[..], &outcome.tokens].concat();
        let rest = GenerateOptions {
            max_tokens: Some(30 - outcome.tokens.len()),
            ..options.clone()
        };
        let (_, going_on) = finish(&mut generator, &said, &rest).unwrap();
        assert_eq!(
            [outcome.tokens, going_on.tokens].concat(),
            expected.tokens,
            "after {calls} calls"
        );
    }
}

#[test]
fn a_draft_that_comes_later_catches_up() {
    let (mut target, mut draft) = (Noise::new(1, 0.3), Noise::new(1, 0.3));
    let mut generator = Generator::new(&mut target);
    let long: Vec<u32> = (0..1300).map(|i| i % VOCABULARY).collect();
    let options = GenerateOptions {
        max_tokens: Some(4),
        ..GenerateOptions::default()
    };
    let (_, outcome) = finish(&mut generator, &long, &options).unwrap();
    assert_eq!((outcome.drafted, outcome.full_passes), (0, 3));
    generator.set_draft(Some(&mut draft), DraftLength::Scheduled(vec![9]));
    let said = [&long[..], &outcome.tokens].concat();
    let (_, outcome) = finish(&mut generator, &said, &options).unwrap();
    assert_eq!((outcome.drafted, outcome.accepted), (2, 2));
    assert_eq!(outcome.reused_tokens, 1303);
    drop(generator);
    // The whole text in pieces, and the logits of its last position only.
    assert_eq!(draft.calls, [(512, 0), (512, 0), (281, 1), (1, 1)]);
}
