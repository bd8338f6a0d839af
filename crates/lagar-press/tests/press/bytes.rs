//! The result's bytes depend on the input, the settings and the version alone.

use std::fs;

use lagar_press::{PressError, Silent};

use crate::support::{StopAfter, fixture, press_quietly, press_with, quick};

#[test]
fn threads_do_not_change_a_byte() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["llama3", "qwen3", "llama-sharded"] {
        let files: Vec<Vec<u8>> = [1, 2, 3]
            .map(|threads| {
                let output = folder.path().join(format!("{name}-{threads}.lagar"));
                let options = quick(2).with_tiers(&[2, 1, 1], false);
                press_with(&fixture(name), &output, options, threads, false, &Silent).unwrap();
                fs::read(output).unwrap()
            })
            .into();
        assert!(files[0] == files[1] && files[1] == files[2], "{name}");
    }
}

#[test]
fn the_seed_changes_the_codes_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let [first, again, other] = ["first", "again", "other"].map(|name| folder.path().join(name));
    press_quietly(&fixture("llama2"), &first, quick(3));
    press_quietly(&fixture("llama2"), &again, quick(3));
    let mut options = quick(3);
    options.seed = 1;
    press_quietly(&fixture("llama2"), &other, options);
    assert!(fs::read(&first).unwrap() == fs::read(&again).unwrap());
    assert!(fs::read(&first).unwrap() != fs::read(&other).unwrap());
}

#[test]
fn a_press_stopped_anywhere_resumes_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.lagar");
    for (name, tiers) in [("llama2", &[2][..]), ("llama3", &[2, 1, 1])] {
        let options = || quick(2).with_tiers(tiers, false);
        press_quietly(&fixture(name), &whole, options());
        let mut resumed = 0;
        for reports in (0..).step_by(5) {
            let output = folder.path().join("stopped.lagar");
            let stop = StopAfter::new(reports);
            match press_with(&fixture(name), &output, options(), 2, false, &stop) {
                Ok(_) => {
                    fs::remove_file(&output).unwrap();
                    break;
                }
                Err(PressError::Interrupted) => {}
                Err(other) => panic!("{other}"),
            }
            assert!(!output.exists(), "nothing lies under the output's name");
            let report = press_with(&fixture(name), &output, options(), 1, true, &Silent).unwrap();
            resumed += report.resumed_units;
            assert!(
                fs::read(&output).unwrap() == fs::read(&whole).unwrap(),
                "{name} after {reports}"
            );
            assert!(!folder.path().join("stopped.lagar.partial").exists());
            fs::remove_file(&output).unwrap();
        }
        assert!(resumed > 0, "some stops come after a finished unit");
    }
}

#[test]
fn a_damaged_unit_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.lagar");
    let output = folder.path().join("out.lagar");
    press_quietly(&fixture("llama2"), &whole, quick(2));
    let partial = folder.path().join("out.lagar.partial");
    let stopped = (10..).step_by(10).find(|&reports| {
        press_with(
            &fixture("llama2"),
            &output,
            quick(2),
            1,
            false,
            &StopAfter::new(reports),
        )
        .is_err()
            && partial.join("layer-00000.unit").exists()
    });
    assert!(stopped.is_some());
    let unit = partial.join("layer-00000.unit");
    let mut bytes = fs::read(&unit).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&unit, bytes).unwrap();
    press_with(&fixture("llama2"), &output, quick(2), 1, true, &Silent).unwrap();
    assert!(fs::read(&output).unwrap() == fs::read(&whole).unwrap());
}
