//! A tokenizer of any vocabulary size.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use super::SmallFile;

const BOS: &str = "<|begin|>";
const EOS: &str = "<|end|>";

/// `tokenizer.json` and `tokenizer_config.json`: copies where `from` is given, else made up.
pub(super) fn files(from: Option<&Path>, vocabulary: usize) -> Result<Vec<SmallFile>> {
    let Some(from) = from else {
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": EOS,
        });
        return Ok(vec![
            ("tokenizer.json", serde_json::to_vec(&made_up(vocabulary)?)?),
            ("tokenizer_config.json", serde_json::to_vec(&config)?),
        ]);
    };
    let file = if from.is_dir() {
        from.join("tokenizer.json")
    } else {
        from.to_path_buf()
    };
    let read = |path: &Path| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let mut files = vec![("tokenizer.json", read(&file)?)];
    let config = file.with_file_name("tokenizer_config.json");
    if config.exists() {
        files.push(("tokenizer_config.json", read(&config)?));
    }
    Ok(files)
}

/// Byte-level BPE: two special tokens, the 256 bytes, then words of two letters, of three letters
/// and so on, with and without a space before them, each made of the one that is a letter shorter.
fn made_up(size: usize) -> Result<Value> {
    ensure!(
        size >= 258,
        "a vocabulary of {size} is too small: 256 bytes and 2 special tokens"
    );
    let mut vocabulary = Map::new();
    let mut merges = Vec::new();
    let add = |vocabulary: &mut Map<String, Value>, token: String| {
        vocabulary.insert(token, vocabulary.len().into());
    };
    for special in [BOS, EOS] {
        add(&mut vocabulary, special.into());
    }
    for letter in byte_letters() {
        add(&mut vocabulary, letter.into());
    }
    let mut words: Vec<String> = "Ġabcdefghijklmnopqrstuvwxyz"
        .chars()
        .map(String::from)
        .collect();
    'full: loop {
        let mut longer = Vec::new();
        for word in &words {
            for letter in 'a'..='z' {
                if vocabulary.len() == size {
                    break 'full;
                }
                merges.push(json!([word, letter]));
                longer.push(format!("{word}{letter}"));
                add(&mut vocabulary, format!("{word}{letter}"));
            }
        }
        words = longer;
    }
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false, "special": true})
    };
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false,
                            "trim_offsets": true, "use_regex": true});
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [special(0, BOS), special(1, EOS)],
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": BOS, "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                     {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {BOS: {"id": BOS, "ids": [0], "tokens": [BOS]}},
        },
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
                  "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocabulary, "merges": merges},
    }))
}

/// The letter that stands for each byte: itself if it prints, else the next from U+0100 on.
fn byte_letters() -> impl Iterator<Item = char> {
    let prints = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut others = '\u{100}'..;
    (0..=255_u8).filter_map(move |byte| {
        if prints(byte) {
            Some(char::from(byte))
        } else {
            others.next()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lagar_engine::{Tokenizer, TokenizerConfig};

    #[test]
    fn the_made_up_tokenizer_has_the_size_and_any_text_comes_back() {
        for size in [258, 512, 5000] {
            let files = files(None, size).unwrap();
            let config = TokenizerConfig::from_json("c", &files[1].1).unwrap();
            let tokenizer = Tokenizer::from_bytes("t", &files[0].1, &config).unwrap();
            assert_eq!(tokenizer.vocabulary(), size);
            let text = "The mill stands where two roads meet — 橄榄\n";
            let tokens = tokenizer.encode(text).unwrap();
            assert_eq!(tokens[0], 0);
            assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
            if size == 5000 {
                assert!(tokens.len() < text.len() * 3 / 4, "{} tokens", tokens.len());
            }
        }
        assert!(files(None, 257).is_err());
    }
}
