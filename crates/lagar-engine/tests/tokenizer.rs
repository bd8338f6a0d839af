//! Properties of the tokenizer, on the fixtures' byte-level and byte-fallback tokenizers.

use std::path::Path;

use lagar_engine::EngineError;
use lagar_engine::tokenizer::{Tokenizer, TokenizerConfig};
use proptest::prelude::*;

fn fixture(name: &str, file: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    std::fs::read(folder.join(name).join(file)).unwrap()
}

fn load(name: &str) -> Tokenizer {
    let config = fixture(name, "tokenizer_config.json");
    let config = TokenizerConfig::from_json("tokenizer_config.json", &config).unwrap();
    Tokenizer::from_bytes("tokenizer.json", &fixture(name, "tokenizer.json"), &config).unwrap()
}

fn byte_level() -> Tokenizer {
    load("llama3")
}

fn byte_fallback() -> Tokenizer {
    load("llama2")
}

fn stream(tokenizer: &Tokenizer, before: &[u32], tokens: &[u32]) -> Vec<String> {
    let mut stream = tokenizer.stream(before);
    let mut pieces: Vec<String> = tokens
        .iter()
        .map(|&token| stream.push(token).unwrap())
        .collect();
    pieces.push(stream.flush().unwrap());
    pieces
}

/// A token for each byte: the byte-level tokenizer's letters, or the byte-fallback `<0x..>`.
fn byte_tokens(tokenizer: &Tokenizer, fallback: bool) -> Vec<u32> {
    // The bytes that GPT-2's alphabet writes as themselves; the others follow from U+0100 on.
    let plain = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut next = 256;
    (0..256)
        .map(|byte| {
            let content = if fallback && byte == 32 {
                "▁".to_string()
            } else if fallback {
                format!("<0x{byte:02X}>")
            } else if plain(byte) {
                char::from_u32(byte).unwrap().to_string()
            } else {
                next += 1;
                char::from_u32(next - 1).unwrap().to_string()
            };
            tokenizer.id_of(&content).unwrap()
        })
        .collect()
}

#[test]
fn text_comes_back_and_special_tokens_are_added_once() {
    for (tokenizer, bos) in [(byte_level(), 0), (byte_fallback(), 1)] {
        let text = "The mill, naïve — 橄榄 🫒\n\n  two roads";
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(
            (ids[0], tokenizer.bos(), tokenizer.added_bos()),
            (bos, Some(bos), Some(bos))
        );
        assert_eq!(ids[1..], tokenizer.encode_plain(text).unwrap());
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        assert_eq!(tokenizer.encode("").unwrap(), [bos]);
    }
}

#[test]
fn words_after_a_prompt_keep_their_space() {
    for tokenizer in [byte_level(), byte_fallback()] {
        let prompt = tokenizer.encode("The mill").unwrap();
        let whole = tokenizer
            .encode("The mill stands where two roads meet")
            .unwrap();
        assert_eq!(whole[..prompt.len()], prompt);
        let pieces = stream(&tokenizer, &prompt, &whole[prompt.len()..]);
        assert_eq!(pieces.concat(), " stands where two roads meet");
    }
}

#[test]
fn a_prompt_may_end_inside_a_character() {
    for (tokenizer, fallback) in [(byte_level(), false), (byte_fallback(), true)] {
        let bytes = byte_tokens(&tokenizer, fallback);
        let olive: Vec<u32> = "🫒".bytes().map(|byte| bytes[usize::from(byte)]).collect();
        // What has begun in the prompt cannot be shown whole; what follows must be.
        let mut rest = olive[2..].to_vec();
        rest.extend(&olive);
        let text = stream(&tokenizer, &olive[..2], &rest).concat();
        assert!(text.ends_with("🫒"), "{text:?}");
    }
}

#[test]
fn a_word_after_a_wrong_byte_keeps_its_space() {
    for (tokenizer, fallback) in [(byte_level(), false), (byte_fallback(), true)] {
        let mut ids = tokenizer.encode("The").unwrap();
        ids.push(byte_tokens(&tokenizer, fallback)[0x80]);
        let word: &[&str] = if fallback {
            &["▁", "t", "he"]
        } else {
            &["Ġthe"]
        };
        ids.extend(word.iter().map(|piece| tokenizer.id_of(piece).unwrap()));
        assert_eq!(stream(&tokenizer, &[], &ids).concat(), "The\u{FFFD} the");
    }
}

#[test]
fn a_stray_replacement_character_is_only_delayed() {
    let tokenizer = byte_level();
    let ids = tokenizer.encode_plain("a\u{FFFD}b").unwrap();
    assert_eq!(stream(&tokenizer, &[], &ids).concat(), "a\u{FFFD}b");
    let ids = tokenizer.encode_plain("a\u{FFFD}").unwrap();
    assert_eq!(stream(&tokenizer, &[], &ids).concat(), "a\u{FFFD}");
}

#[test]
fn add_bos_token_decides_about_bos() {
    let json = fixture("llama3", "tokenizer.json");
    let load = |config: &str| {
        let config = TokenizerConfig::from_json("c", config.as_bytes()).unwrap();
        Tokenizer::from_bytes("t", &json, &config).unwrap()
    };
    let without = load(r#"{"bos_token": "<|begin|>", "add_bos_token": false}"#);
    assert_eq!(without.added_bos(), None);
    assert_eq!(
        without.encode("a").unwrap(),
        without.encode_plain("a").unwrap()
    );
    // A BOS that the text itself has stays.
    assert_eq!(without.encode("<|begin|>").unwrap(), [0]);
    let other = load(r#"{"bos_token": {"content": "<|turn|>"}, "add_bos_token": true}"#);
    assert_eq!((other.bos(), other.added_bos()), (Some(2), Some(2)));
    let unnamed = load("{}");
    assert_eq!(
        (unnamed.bos(), unnamed.added_bos(), unnamed.eos()),
        (Some(0), Some(0), None)
    );
}

#[test]
fn truncation_and_padding_left_in_the_file_do_not_apply() {
    let mut json: serde_json::Value =
        serde_json::from_slice(&fixture("llama3", "tokenizer.json")).unwrap();
    json["truncation"] = serde_json::json!(
        {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = serde_json::json!(
        {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
         "pad_id": 1, "pad_type_id": 0, "pad_token": "<|end|>"});
    let tokenizer = Tokenizer::from_bytes(
        "t",
        json.to_string().as_bytes(),
        &TokenizerConfig::default(),
    )
    .unwrap();
    let text = "The stones turn, the baskets fill";
    assert_eq!(
        tokenizer.encode(text).unwrap(),
        byte_level().encode(text).unwrap()
    );
}

#[test]
fn special_tokens_have_no_text_even_if_they_are_normalized() {
    // As in Llama 2's own file.
    let mut json: serde_json::Value =
        serde_json::from_slice(&fixture("llama2", "tokenizer.json")).unwrap();
    for token in json["added_tokens"].as_array_mut().unwrap() {
        token["normalized"] = true.into();
    }
    let json = json.to_string();
    let tokenizer =
        Tokenizer::from_bytes("t", json.as_bytes(), &TokenizerConfig::default()).unwrap();
    let ids = tokenizer.encode("The mill").unwrap();
    assert_eq!(tokenizer.decode(&ids).unwrap(), "The mill");
    assert_eq!(stream(&tokenizer, &[], &ids).concat(), "The mill");
}

#[test]
fn malformed_files_are_refused_with_the_files_name() {
    let good = fixture("llama3", "tokenizer.json");
    let config = TokenizerConfig::default();
    for bytes in [
        &b""[..],
        b"{}",
        b"[1, 2",
        b"{\"model\": {\"type\": \"BPE\"}}",
        &good[..good.len() / 2],
    ] {
        let error = Tokenizer::from_bytes("dir/tokenizer.json", bytes, &config).unwrap_err();
        assert!(
            error.to_string().starts_with("dir/tokenizer.json: "),
            "{error}"
        );
    }
    let absent = TokenizerConfig::from_json("c", br#"{"eos_token": "</nothing>"}"#).unwrap();
    let error = Tokenizer::from_bytes("t", &good, &absent).unwrap_err();
    assert!(error.to_string().contains("</nothing>"), "{error}");

    for (bytes, key) in [
        (&br#"{"bos_token": 3}"#[..], "bos_token"),
        (br#"{"add_bos_token": "yes"}"#, "add_bos_token"),
        (
            br#"{"chat_template": [{"name": "default"}]}"#,
            "chat_template",
        ),
    ] {
        let error = TokenizerConfig::from_json("c", bytes).unwrap_err();
        assert!(
            matches!(&error, EngineError::Config { key: k, .. } if k == key),
            "{error}"
        );
    }
    assert!(TokenizerConfig::from_json("c", b"[]").is_err());
    assert!(matches!(
        TokenizerConfig::from_json("c", b"{"),
        Err(EngineError::Json { .. })
    ));
}

#[test]
fn a_vocabulary_larger_than_the_models_is_refused() {
    let tokenizer = byte_level();
    assert_eq!(tokenizer.vocabulary(), 300);
    tokenizer.check_vocabulary(300).unwrap();
    tokenizer.check_vocabulary(304).unwrap();
    let error = tokenizer.check_vocabulary(299).unwrap_err().to_string();
    assert!(
        error.contains("up to 299") && error.contains("is 299"),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The pieces of any text, put together, are the text; each is whole characters.
    #[test]
    fn pieces_put_together_are_the_text(text in "(\\PC|[ \n]|olive ){0,24}", cut in 0_usize..24) {
        // That this character itself may be made of bytes is the next test's matter.
        let text = text.replace('\u{FFFD}', "");
        for tokenizer in [byte_level(), byte_fallback()] {
            let ids = tokenizer.encode(&text).unwrap();
            let whole = tokenizer.decode(&ids).unwrap();
            prop_assert_eq!(&stream(&tokenizer, &[], &ids).concat(), &whole);
            // Wherever a prompt ends between characters, the rest is the rest.
            let (prompt, rest) = ids.split_at(cut.min(ids.len()));
            let shown = tokenizer.decode(prompt).unwrap();
            if !shown.ends_with('\u{FFFD}') && whole.starts_with(&shown) {
                prop_assert_eq!(&stream(&tokenizer, prompt, rest).concat(), &whole[shown.len()..]);
            }
        }
    }

    /// Whatever bytes a model makes, every valid character among them is shown, in order, and
    /// nothing else but U+FFFD for what is invalid.
    #[test]
    fn no_character_among_wrong_bytes_is_lost(
        chunks in proptest::collection::vec(
            prop_oneof![
                any::<char>().prop_map(|c| c.to_string().into_bytes()),
                proptest::collection::vec(128_u8..=255, 1..7),
            ],
            0..12,
        )
    ) {
        let bytes = chunks.concat();
        let without_replacement = |text: &str| text.replace('\u{FFFD}', "");
        let expected = without_replacement(&String::from_utf8_lossy(&bytes));
        for (tokenizer, fallback) in [(byte_level(), false), (byte_fallback(), true)] {
            let table = byte_tokens(&tokenizer, fallback);
            let ids: Vec<u32> = bytes.iter().map(|&byte| table[usize::from(byte)]).collect();
            let shown = without_replacement(&stream(&tokenizer, &[], &ids).concat());
            if fallback {
                // This decoder drops one space at the start of a text.
                prop_assert_eq!(shown.trim_start(), expected.trim_start());
            } else {
                prop_assert_eq!(&shown, &expected);
            }
        }
    }
}
