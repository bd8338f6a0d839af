//! Tables of levels that are sums of two halves, with wider steps outside.

/// A 256-entry table whose levels are found from two 16-entry halves without looking 256 of them up.
///
/// The sum `a[w & 15] + b[w >> 4]` has steps of one size everywhere; the Gaussian wants them wider outside. So what a
/// sum's magnitude has above the first bend counts twice, and what the result has above the second bend counts twice
/// again: `level(w) = ±bend₂(bend₁(|sum|))` with `bend(m) = m + max(m − bend, 0)` and the sign of the sum.
///
/// Files and [`Table`](crate::Table) know nothing of it: [`Bent::of`] finds it in the levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bent {
    /// What the window's low 4 bits add to the sum.
    pub a: [i8; 16],
    /// What the window's high 4 bits add to the sum.
    pub b: [i8; 16],
    /// The bends, from 0 to 127, the first not above the second.
    pub bends: [u8; 2],
}

impl Bent {
    /// The level of a window; it fits a byte in what [`Bent::of`] found.
    pub fn level(&self, window: u8) -> i16 {
        let sum = i16::from(self.a[usize::from(window & 15)])
            + i16::from(self.b[usize::from(window >> 4)]);
        let bent = self
            .bends
            .iter()
            .fold(sum.abs(), |m, &bend| m + (m - i16::from(bend)).max(0));
        bent * sum.signum()
    }

    /// How `levels` are such sums, if they are. Levels and sums are within ±127.
    ///
    /// All pairs of bends are tried, the least first; most fail at the first windows.
    pub fn of(levels: &[i8]) -> Option<Self> {
        let levels: &[i8; 256] = levels.try_into().ok()?;
        (0..=127).find_map(|second| {
            (0..=second).find_map(|first| Self::with_bends(levels, [first, second]))
        })
    }

    fn with_bends(levels: &[i8; 256], bends: [u8; 2]) -> Option<Self> {
        let sum = |window: usize| straight(i16::from(levels[window]), bends);
        let first = sum(0)?;
        let (mut a, mut b) = ([0; 16], [0; 16]);
        for i in 0..16 {
            a[i] = i8::try_from(sum(i)?).ok()?;
            b[i] = i8::try_from(sum(16 * i)? - first).ok()?;
        }
        let bent = Self { a, b, bends };
        let same = |window: u8| bent.level(window) == i16::from(levels[usize::from(window)]);
        (levels[0] > i8::MIN && (0..=255).all(same)).then_some(bent)
    }
}

/// The sum that becomes `level`, if one does.
fn straight(level: i16, bends: [u8; 2]) -> Option<i16> {
    let magnitude = bends.iter().rev().try_fold(level.abs(), |m, &bend| {
        let above = m - i16::from(bend);
        match above > 0 {
            true => (above % 2 == 0).then_some(m - above / 2),
            false => Some(m),
        }
    });
    magnitude.map(|m| m * level.signum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(bent: &Bent) -> Vec<i8> {
        (0..=255)
            .map(|w| i8::try_from(bent.level(w)).unwrap())
            .collect()
    }

    #[test]
    fn what_is_bent_is_found() {
        for bends in [[0, 0], [30, 30], [31, 47], [40, 127], [127, 127]] {
            let step = |i: usize| (i as i8 - 8) * if bends[0] == 0 { 1 } else { 2 };
            let bent = Bent {
                a: std::array::from_fn(|i| step(i * 7 % 16)),
                b: std::array::from_fn(|i| step(i * 11 % 16) + 1),
                bends,
            };
            let levels = levels(&bent);
            let found = Bent::of(&levels).expect("it is bent");
            assert_eq!(super::tests::levels(&found), levels);
        }
    }

    #[test]
    fn free_levels_are_not_bent() {
        let mut levels: Vec<i8> = (0..=255u8).map(|w| (w as i8) / 4).collect();
        assert!(Bent::of(&levels[..16]).is_none());
        levels[77] += 1;
        assert!(Bent::of(&levels).is_none());
        assert!(Bent::of(&[-128; 256]).is_none());
    }
}
