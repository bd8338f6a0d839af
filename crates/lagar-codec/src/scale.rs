//! Logarithmic scales: one byte, 16 steps an octave.

/// The scale code that means exactly zero.
pub const ZERO_SCALE: u8 = 255;

/// `2^(−i/16)`, rounded to the nearest f32.
const STEP: [f32; 16] = [
    1.0, 0.9576033, 0.91700405, 0.8781261, 0.8408964, 0.80524516, 0.7711054, 0.7384131, 0.70710677,
    0.6771278, 0.6484198, 0.6209289, 0.59460354, 0.5693943, 0.5452539, 0.52213687,
];

/// The value of a scale code: `2^(−code/16)`, computed as `STEP[code & 15] · 2^−(code >> 4)` in f32;
/// code 255 is 0.
pub const fn scale_value(code: u8) -> f32 {
    if code == ZERO_SCALE {
        return 0.0;
    }
    let octave = f32::from_bits((127 - (code >> 4) as u32) << 23);
    STEP[(code & 15) as usize] * octave
}

/// The code whose value is nearest to `ratio`; of two equally near, the one with the larger value.
///
/// Ratios above 1 give 0, the code of 1; zero, negative ratios and NaN give 255, the code of 0.
pub fn scale_code(ratio: f32) -> u8 {
    if ratio.is_nan() || ratio <= 0.0 {
        return ZERO_SCALE;
    }
    // Values fall strictly with the code: find the first that is not above the ratio.
    let (mut low, mut high) = (0, ZERO_SCALE);
    while low < high {
        let middle = low + (high - low) / 2;
        if scale_value(middle) <= ratio {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    if low == 0 {
        return 0;
    }
    let (above, below) = (scale_value(low - 1), scale_value(low));
    if above - ratio <= ratio - below {
        low - 1
    } else {
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_powers_of_two_to_the_sixteenth() {
        for code in 0..ZERO_SCALE {
            let exact = (-f64::from(code) / 16.0).exp2();
            assert_eq!(scale_value(code), exact as f32, "code {code}");
        }
        assert_eq!(scale_value(ZERO_SCALE), 0.0);
    }

    #[test]
    fn every_code_is_nearest_to_its_own_value() {
        for code in 0..=ZERO_SCALE {
            assert_eq!(scale_code(scale_value(code)), code);
        }
    }

    #[test]
    fn the_nearest_value_wins_and_odd_ratios_have_a_code() {
        let nearest = |ratio: f32| {
            (0..=ZERO_SCALE)
                .min_by(|&a, &b| {
                    let distance = |code| (scale_value(code) - ratio).abs();
                    distance(a).total_cmp(&distance(b)).then(a.cmp(&b))
                })
                .unwrap()
        };
        let mut ratio = 1.0f32;
        while ratio > 1e-6 {
            assert_eq!(scale_code(ratio), nearest(ratio), "ratio {ratio}");
            ratio *= 0.9973;
        }
        assert_eq!(scale_code(3.0), 0);
        assert_eq!(scale_code(f32::INFINITY), 0);
        for nothing in [0.0, -1.0, f32::NAN, f32::MIN_POSITIVE] {
            assert_eq!(scale_code(nothing), ZERO_SCALE);
        }
    }
}
