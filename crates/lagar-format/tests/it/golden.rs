//! Files of released versions open and read the same for ever.

use lagar_format::Index;

use crate::sample::open_and_check;

#[test]
fn version_1_reads_as_it_was_written() {
    let file = include_bytes!("../golden/version1.lagar");
    let container = open_and_check(file.to_vec()).unwrap();
    let expected: Index = serde_json::from_str(include_str!("../golden/version1.json")).unwrap();
    assert_eq!(container.index(), &expected);
    assert_eq!(container.tiers_complete(), 2);
    assert_eq!(container.tier_bytes(0).unwrap(), 7104);
    assert_eq!(container.tier_bytes(1).unwrap(), file.len() as u64);
    assert_eq!(
        container.file("config.json").unwrap(),
        br#"{"architectures": ["LlamaForCausalLM"]}"#
    );
    assert_eq!(container.part(1).unwrap()[..4], [43, 1, 42, 1]);
}
