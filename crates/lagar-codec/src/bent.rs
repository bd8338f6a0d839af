//! Tables of levels that are sums of two halves, with wider steps outside.

/// A 256-entry table whose levels are found from two 16-entry halves without looking 256 of them up.
///
/// The sum `a[w & 15] + b[w >> 4]` has steps of one size everywhere; the Gaussian wants them wider outside. So what a
/// sum's magnitude has above the first bend counts twice, and what the result has above the second bend counts twice
/// again: `level(w) = ±bend₂(bend₁(|sum|))` with `bend(m) = m + max(m − bend, 0)` and the sign of the sum.
///
/// Files know nothing of it: [`Table::from_levels`](crate::Table::from_levels) finds it in the levels.
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
    /// The level of a window; it fits a byte in a table.
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
    /// All pairs of bends are tried, the least first. Most fail at the first window, and the window at which one has
    /// failed is the first for the next.
    pub(crate) fn of(levels: &[i8]) -> Option<Self> {
        let levels: &[i8; 256] = levels.try_into().ok()?;
        if levels.contains(&i8::MIN) {
            return None;
        }
        let mut failed = u8::MAX;
        let mut pairs = (0..=127).flat_map(|second| (0..=second).map(move |first| [first, second]));
        pairs.find_map(|bends| {
            let sum = |window: u8| straight(i16::from(levels[usize::from(window)]), bends);
            let is_sum = |w: u8| Some(sum(w)? + sum(0)? == sum(w & 15)? + sum(w & 0xf0)?);
            let fails = |w: &u8| is_sum(*w) != Some(true);
            if fails(&failed) {
                return None;
            }
            if let Some(window) = (0..=255).find(fails) {
                failed = window;
                return None;
            }
            let part = |window: u8| Some(sum(window)? as i8);
            let first = part(0)?;
            let (mut a, mut b) = ([0; 16], [0; 16]);
            for i in 0..16 {
                a[usize::from(i)] = part(i)?;
                b[usize::from(i)] = part(i << 4)?.checked_sub(first)?;
            }
            Some(Self { a, b, bends })
        })
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

    fn all_levels(bent: &Bent) -> Vec<i8> {
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
            let levels = all_levels(&bent);
            let found = Bent::of(&levels).expect("it is bent");
            assert_eq!(all_levels(&found), levels);
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
