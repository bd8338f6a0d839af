use super::*;

/// A small part of the training of a table.
const SHORT: Effort = Effort {
    starts: 4,
    noisy: 100,
    sizes: [1 << 12, 1 << 13, 1 << 13],
};

/// Training is the same on every machine: a short run ends in these levels.
#[test]
fn a_short_training_run_reproduces_its_table() {
    let table = train_trellis(2, SHORT);
    let split = table.split().expect("depth 2 is split");
    let a = [
        -12, -2, 13, 18, -21, 17, 0, -3, 13, -11, -6, 5, 29, 35, -22, -4,
    ];
    let b = [
        -9, 5, 0, 12, 15, -19, 23, 33, 2, -16, -29, 12, -27, 5, 0, -14,
    ];
    assert_eq!((split.a, split.b), (a, b));
    assert_eq!((split.a_sign_bit, split.b_sign_bit), (7, 0));
    assert_eq!(table.sigma(), 20.656658);
    let table = train_trellis(6, SHORT);
    let bent = Bent {
        a: [
            -67, -69, -65, -63, -59, -61, -57, -55, -51, -53, -49, -47, -45, -43, -41, -39,
        ],
        b: [
            0, 34, 66, 99, 5, 39, 70, 104, 10, 41, 71, 105, 3, 36, 68, 102,
        ],
        bends: [46, 67],
    };
    assert_eq!(table.bent(), Some(&bent));
    assert_eq!(table.sigma(), 30.0);
}

/// The stored tables have the errors that training reported (on a smaller sample, hence the margin).
#[test]
fn the_stored_tables_have_the_errors_that_training_reported() {
    // Bits lost to the rate–distortion bound, by depth.
    let scalar = [
        0.2706, 0.4556, 0.5731, 0.6415, 0.6843, 0.7201, 0.8116, 1.2717,
    ];
    let trellis = [0.0842, 0.1543, 0.2151, 0.2976, 0.3085, 0.4387, 0.7131];
    let mut test = Sample::new(TEST_SEED, 1 << 18);
    for (trellis, reported) in [(false, &scalar[..]), (true, &trellis[..])] {
        for (depth, &reported) in (1..).zip(reported) {
            let table = Table::trained(depth, if trellis { 8 } else { depth });
            let lost = test.measure_table(table).bits_lost(depth);
            // Deep tables leave errors whose tails make the estimate noisy.
            let margin = [0.005, 0.03][usize::from(depth > 5)];
            assert!(
                (lost - reported).abs() < margin,
                "depth {depth}: {lost:.4}, not {reported:.4}"
            );
        }
    }
}

/// What the file holds is what this program would write for the tables in it.
#[test]
fn the_source_is_as_written() {
    let scalar: Vec<Table> = (1..=8)
        .map(|depth| Table::trained(depth, depth).clone())
        .collect();
    let trellis: Vec<Table> = (1..=7)
        .map(|depth| Table::trained(depth, 8).clone())
        .collect();
    let stored = include_str!("../../../crates/lagar-codec/src/tables/trained.rs");
    assert_eq!(source::write(&scalar, &trellis), stored);
}
