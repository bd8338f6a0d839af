//! What is in memory of the weights that are read from the disk, and what to read next.
//!
//! Units are used in a cycle: 0, 1, … and 0 again. The window is a number of buffers, each of which
//! takes any unit. A unit that was just used will be used last, so it is the first to go. What fits
//! beyond the few units read ahead therefore stays, and is not read again in every pass.

use std::collections::{BTreeMap, VecDeque};

/// Units that are read ahead of the one in use.
const AHEAD: usize = 2;

/// The buffers and what is in them.
#[derive(Debug)]
pub(super) struct Window<T> {
    units: usize,
    buffers: usize,
    slots: BTreeMap<usize, Slot<T>>,
    /// Units that somebody waits for, first come first served, with how many do.
    waiting: VecDeque<(usize, usize)>,
    /// The unit that is probably used next.
    cursor: usize,
}

#[derive(Debug)]
enum Slot<T> {
    Reading,
    Ready { content: T, users: usize },
}

/// What to read next.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Next<T> {
    pub(super) unit: usize,
    /// What was in the buffer that is to be used; `None` for one that was never used.
    pub(super) evicted: Option<T>,
}

impl<T> Window<T> {
    /// A window of at least one buffer over at least one unit.
    pub(super) fn new(units: usize, buffers: usize) -> Self {
        assert!(units > 0 && buffers > 0);
        Self {
            units,
            buffers,
            slots: BTreeMap::new(),
            waiting: VecDeque::new(),
            cursor: 0,
        }
    }

    /// Number of buffers.
    pub(super) fn buffers(&self) -> usize {
        self.buffers
    }

    /// Registers interest in a unit, until [`Window::leave`]. It stays once it is there.
    pub(super) fn wait(&mut self, unit: usize) {
        match self.waiting.iter_mut().find(|(known, _)| *known == unit) {
            Some((_, count)) => *count += 1,
            None => self.waiting.push_back((unit, 1)),
        }
    }

    /// Ends what [`Window::wait`] began.
    pub(super) fn leave(&mut self, unit: usize) {
        let at = self.waiting.iter().position(|(known, _)| *known == unit);
        let at = at.expect("leaves what was waited for");
        self.waiting[at].1 -= 1;
        if self.waiting[at].1 == 0 {
            self.waiting.remove(at);
        }
    }

    /// A unit's content if it is there, to be given back with [`Window::release`].
    pub(super) fn acquire(&mut self, unit: usize) -> Option<&T> {
        match self.slots.get_mut(&unit) {
            Some(Slot::Ready { content, users }) => {
                *users += 1;
                self.cursor = (unit + 1) % self.units;
                Some(content)
            }
            _ => None,
        }
    }

    /// Ends one use of a unit.
    pub(super) fn release(&mut self, unit: usize) {
        match self.slots.get_mut(&unit) {
            Some(Slot::Ready { users, .. }) if *users > 0 => *users -= 1,
            _ => unreachable!("unit {unit} is not in use"),
        }
    }

    /// Removes a unit that nobody uses, as if it had not been read.
    pub(super) fn remove(&mut self, unit: usize) -> Option<T> {
        match self.slots.remove(&unit)? {
            Slot::Ready { content, users: 0 } => Some(content),
            slot => {
                self.slots.insert(unit, slot);
                None
            }
        }
    }

    /// Puts in what was read; see [`Window::next`].
    pub(super) fn fill(&mut self, unit: usize, content: T) {
        let slot = Slot::Ready { content, users: 0 };
        let before = self.slots.insert(unit, slot);
        assert!(matches!(before, Some(Slot::Reading)), "unit {unit}");
    }

    /// What to read now, if anything: first what somebody waits for, then what comes next. The unit
    /// counts as being read until [`Window::fill`].
    pub(super) fn next(&mut self) -> Option<Next<T>> {
        let wanted = self.waiting.iter().map(|(unit, _)| *unit);
        if let Some(unit) = { wanted }.find(|unit| !self.slots.contains_key(unit)) {
            return self.take_buffer(unit, None);
        }
        let ahead = AHEAD.min(self.units);
        let unit = (0..ahead)
            .map(|rank| (self.cursor + rank) % self.units)
            .find(|unit| !self.slots.contains_key(unit))?;
        self.take_buffer(unit, Some(self.rank(unit)))
    }

    /// A buffer for a unit: a new one, or that of the unit that is used last. With `rank`, only one
    /// that is used later than that.
    fn take_buffer(&mut self, unit: usize, rank: Option<usize>) -> Option<Next<T>> {
        let mut evicted = None;
        if self.slots.len() >= self.buffers {
            let awaited = |unit: &usize| self.waiting.iter().any(|(known, _)| known == unit);
            let idle = self.slots.iter().filter(|(unit, slot)| {
                matches!(slot, Slot::Ready { users: 0, .. }) && !awaited(unit)
            });
            let last = idle.map(|(unit, _)| *unit).max_by_key(|u| self.rank(*u))?;
            if rank.is_some_and(|rank| self.rank(last) <= rank) {
                return None;
            }
            evicted = self.remove(last);
        }
        self.slots.insert(unit, Slot::Reading);
        Some(Next { unit, evicted })
    }

    /// How many units are used before this one.
    fn rank(&self, unit: usize) -> usize {
        (unit + self.units - self.cursor) % self.units
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs passes over all units with one user, reading whatever can be read before each use.
    /// Returns the number of reads of each pass.
    fn reads(units: usize, buffers: usize, passes: usize) -> Vec<usize> {
        let mut window = Window::new(units, buffers);
        let mut counts = Vec::new();
        let mut made = 0;
        for _ in 0..passes {
            let mut count = 0;
            for unit in 0..units {
                window.wait(unit);
                let mut read = |window: &mut Window<usize>| {
                    while let Some(next) = window.next() {
                        made += usize::from(next.evicted.is_none());
                        window.fill(next.unit, next.unit);
                        count += 1;
                    }
                };
                read(&mut window);
                assert_eq!(window.acquire(unit), Some(&unit));
                window.leave(unit);
                read(&mut window);
                window.release(unit);
            }
            counts.push(count);
        }
        assert!(made <= buffers, "{made} buffers of {buffers}");
        counts
    }

    #[test]
    fn every_unit_comes_in_turn_in_any_number_of_buffers() {
        for units in 1..9 {
            for buffers in 1..12 {
                let counts = reads(units, buffers, 4);
                if buffers >= units {
                    assert_eq!(counts, [units, 0, 0, 0], "{units} units, {buffers} buffers");
                }
            }
        }
    }

    #[test]
    fn what_fits_beyond_the_read_ahead_is_not_read_again() {
        // One in use, two ahead: seven of ten buffers keep what they have.
        let counts = reads(20, 10, 4);
        assert!(
            counts[1..].iter().all(|count| *count <= 20 - 7),
            "{counts:?}"
        );
    }

    #[test]
    fn the_unit_in_use_and_those_waited_for_stay() {
        let mut window = Window::new(5, 2);
        window.wait(3);
        let first = window.next().unwrap();
        assert_eq!(first.unit, 3);
        window.fill(3, 'd');
        // The read-ahead takes the other buffer, but not that one.
        assert_eq!(window.next().unwrap().unit, 0);
        window.fill(0, 'a');
        assert_eq!(window.next(), None);
        assert_eq!(window.acquire(3), Some(&'d'));
        window.leave(3);
        // While it is in use, another one is asked for: the read-ahead gives way.
        window.wait(1);
        let next = window.next().unwrap();
        assert_eq!((next.unit, next.evicted), (1, Some('a')));
        window.fill(1, 'b');
        window.wait(2);
        assert_eq!(window.next(), None, "both are needed");
        assert_eq!(window.remove(3), None, "in use");
        window.release(3);
        assert_eq!(window.next().unwrap().evicted, Some('d'));
    }
}
