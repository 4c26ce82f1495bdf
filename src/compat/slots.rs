//! Slots that share their actions: none may be left without one.

/// Which actions a slot may show so that each of the slots after it can still show one of its own.
///
/// `allowed[j][a]` says whether later slot j may show action a at all; `free[a]` whether no earlier slot shows it. The answer
/// is by action: a matching of the later slots is found by augmenting paths (Kuhn 1955), and an action that it uses may be
/// had where the slot that lost it finds another.
#[must_use]
pub fn later_slots_allow(free: &[bool], allowed: &[Vec<bool>]) -> Vec<bool> {
    let mut matching = Matching { allowed, taken_by: vec![None; free.len()] };
    let usable: Vec<bool> = free.to_vec();
    let complete = (0..allowed.len()).all(|slot| matching.place(slot, &mut usable.clone()));
    (0..free.len())
        .map(|action| {
            if !free[action] || !complete {
                return false;
            }
            let Some(slot) = matching.taken_by[action] else { return true };
            let mut without = matching.clone();
            without.taken_by[action] = None;
            let mut rest = usable.clone();
            rest[action] = false;
            without.place(slot, &mut rest)
        })
        .collect()
}

#[derive(Clone)]
struct Matching<'a> {
    allowed: &'a [Vec<bool>],
    /// The later slot that has each action.
    taken_by: Vec<Option<usize>>,
}

impl Matching<'_> {
    /// Gives the slot an action, moving others where that helps. `usable` are the actions not looked at yet.
    fn place(&mut self, slot: usize, usable: &mut [bool]) -> bool {
        for action in 0..self.taken_by.len() {
            if !self.allowed[slot][action] || !std::mem::take(&mut usable[action]) {
                continue;
            }
            let moved = match self.taken_by[action] {
                Some(other) => self.place(other, usable),
                None => true,
            };
            if moved {
                self.taken_by[action] = Some(slot);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether each slot can show an action of its own, by trying everything.
    fn feasible(free: &[bool], allowed: &[Vec<bool>]) -> bool {
        let Some((slot, later)) = allowed.split_first() else { return true };
        (0..free.len()).any(|action| {
            let mut rest = free.to_vec();
            slot[action] && std::mem::take(&mut rest[action]) && feasible(&rest, later)
        })
    }

    proptest! {
        #[test]
        fn what_is_allowed_leaves_each_later_slot_an_action(
            (free, allowed) in (1_usize..6, 0_usize..4).prop_flat_map(|(actions, slots)| (
                proptest::collection::vec(any::<bool>(), actions),
                proptest::collection::vec(proptest::collection::vec(any::<bool>(), actions), slots),
            )),
        ) {
            let found = later_slots_allow(&free, &allowed);
            for action in 0..free.len() {
                let mut rest = free.clone();
                let expected = std::mem::take(&mut rest[action]) && feasible(&rest, &allowed);
                prop_assert_eq!(found[action], expected, "action {}", action);
            }
        }
    }
}
