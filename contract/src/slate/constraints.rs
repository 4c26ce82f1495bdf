//! What a slate must keep to, by candidate index: pins, caps, required positions, diversity.

use thiserror::Error;

/// The constraints of one decision over n candidates and a slate of K positions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Constraints {
    /// `(position, candidate)`: who stands where whatever the scores say.
    pub pinned: Vec<(usize, usize)>,
    /// Caps on groups of candidates.
    pub at_most: Vec<AtMost>,
    /// Positions that only some candidates may take.
    pub required: Vec<Required>,
    /// Maximal marginal relevance.
    pub diversity: Option<Diversity>,
}

/// At most so many of each group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtMost {
    /// The group of each candidate, `[n]`; those without one are not counted.
    pub group: Vec<Option<u32>>,
    /// The cap of every group.
    pub most: usize,
}

/// A position that only some candidates may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Required {
    /// The position, from 0.
    pub position: usize,
    /// Whether each candidate may, `[n]`.
    pub eligible: Vec<bool>,
}

/// Maximal marginal relevance (Carbonell & Goldstein 1998, doi:10.1145/290941.291025): at each position a candidate c
/// counts `score_c - penalty * max over the shown b of cos(v_c, v_b)`.
///
/// In that paper's terms the order is that of `lambda score - (1 - lambda) max sim`, with
/// `penalty = (1 - lambda) / lambda`: dividing by lambda keeps the unit of the scores, and so a softmax's temperature.
#[derive(Debug, Clone, PartialEq)]
pub struct Diversity {
    penalty: f64,
    width: usize,
    /// `[n, width]`, each row of length 1, or all zeros.
    rows: Vec<f32>,
}

/// Constraints that cannot be kept.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ConstraintError {
    /// A pin outside the slate, on a taken position, or of a candidate that is pinned already.
    #[error("position {position} cannot be pinned: it is outside the slate, or it or its item is pinned twice")]
    Pin {
        /// The position.
        position: usize,
    },
    /// A required position outside the slate.
    #[error("position {position} is required, and the slate has {size}")]
    Position {
        /// The position.
        position: usize,
        /// The slate's size.
        size: usize,
    },
    /// More items are pinned to a group than it may have.
    #[error("more items of a group are pinned than its cap of {most} allows")]
    PinnedOverCap {
        /// The cap.
        most: usize,
    },
    /// The candidates cannot fill the required positions.
    #[error("the candidates cannot fill the required positions: too few of them are eligible")]
    Required,
    /// Lambda outside (0, 1].
    #[error("lambda is {0}, allowed are above 0, up to 1")]
    Lambda(f64),
}

impl Diversity {
    /// Maximal marginal relevance over `rows` (`[n, width]`).
    ///
    /// # Errors
    /// `lambda` outside (0, 1]; 1 is no diversity at all.
    pub fn new(lambda: f64, rows: &[f32], width: usize) -> Result<Self, ConstraintError> {
        if !(lambda > 0.0 && lambda <= 1.0) {
            return Err(ConstraintError::Lambda(lambda));
        }
        let mut rows = rows.to_vec();
        for row in rows.chunks_exact_mut(width.max(1)) {
            let norm = row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
            if norm > 0.0 {
                row.iter_mut().for_each(|value| *value = (f64::from(*value) / norm) as f32);
            }
        }
        Ok(Self { penalty: (1.0 - lambda) / lambda, width, rows })
    }

    fn similarity(&self, a: usize, b: usize) -> f64 {
        let row = |candidate: usize| &self.rows[candidate * self.width..][..self.width];
        row(a).iter().zip(row(b)).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
    }
}

impl Constraints {
    /// Whether there is nothing to keep to.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pinned.is_empty() && self.at_most.is_empty() && self.required.is_empty() && self.diversity.is_none()
    }

    /// Checks that a slate of `size` out of `candidates` can begin to keep to them.
    ///
    /// # Errors
    /// Pins or required positions that contradict each other or the slate.
    pub fn check(&self, size: usize, candidates: usize) -> Result<(), ConstraintError> {
        for (index, &(position, candidate)) in self.pinned.iter().enumerate() {
            let again = self.pinned[..index].iter().any(|&(other, item)| other == position || item == candidate);
            if position >= size || candidate >= candidates || again {
                return Err(ConstraintError::Pin { position });
            }
        }
        for cap in &self.at_most {
            let groups = self.pinned.iter().filter_map(|&(_, candidate)| cap.group[candidate]);
            for group in groups.clone() {
                if groups.clone().filter(|&other| other == group).count() > cap.most {
                    return Err(ConstraintError::PinnedOverCap { most: cap.most });
                }
            }
        }
        if let Some(required) = self.required.iter().find(|required| required.position >= size) {
            return Err(ConstraintError::Position { position: required.position, size });
        }
        let eligible = |required: &Required| match self.pin(required.position) {
            Some(candidate) => required.eligible[candidate],
            None => true,
        };
        let start = Prefix::new(self, candidates);
        if self.required.iter().all(eligible) && start.fills_required(None) {
            Ok(())
        } else {
            Err(ConstraintError::Required)
        }
    }

    fn pin(&self, position: usize) -> Option<usize> {
        self.pinned.iter().find(|(pinned, _)| *pinned == position).map(|(_, candidate)| *candidate)
    }
}

/// The slate so far, and what follows from it for the next position. Everything here depends on the prefix alone,
/// which is what makes the propensities of the slate a product of conditional ones.
#[derive(Debug, Clone)]
pub(super) struct Prefix<'a> {
    constraints: &'a Constraints,
    items: Vec<usize>,
    free: Vec<bool>,
    /// How many of each group are shown or pinned, by cap.
    counts: Vec<Vec<usize>>,
    /// The greatest similarity of each candidate to what is shown.
    similar: Vec<f64>,
}

impl<'a> Prefix<'a> {
    pub(super) fn new(constraints: &'a Constraints, candidates: usize) -> Self {
        let mut free = vec![true; candidates];
        let groups = |cap: &AtMost| cap.group.iter().flatten().max().map_or(0, |&group| group as usize + 1);
        let mut counts: Vec<Vec<usize>> = constraints.at_most.iter().map(|cap| vec![0; groups(cap)]).collect();
        for &(_, candidate) in &constraints.pinned {
            free[candidate] = false;
            for (cap, counts) in constraints.at_most.iter().zip(&mut counts) {
                cap.group[candidate].into_iter().for_each(|group| counts[group as usize] += 1);
            }
        }
        let similar = vec![0.0; if constraints.diversity.is_some() { candidates } else { 0 }];
        Self { constraints, items: Vec::new(), free, counts, similar }
    }

    pub(super) fn items(&self) -> &[usize] {
        &self.items
    }

    pub(super) fn into_items(self) -> Vec<usize> {
        self.items
    }

    /// The candidates that may stand at the next position, ascending.
    pub(super) fn feasible(&self) -> Vec<usize> {
        let position = self.items.len();
        if let Some(candidate) = self.constraints.pin(position) {
            return vec![candidate];
        }
        let here = |candidate: usize| {
            self.constraints.required.iter().all(|rule| rule.position != position || rule.eligible[candidate])
        };
        let open: Vec<usize> =
            (0..self.free.len()).filter(|&candidate| self.may_take(candidate) && here(candidate)).collect();
        let needed = self.needed().count();
        // With more eligible candidates than required positions, none is missed.
        if self.needed().all(|rule| self.eligible(rule).take(needed + 1).count() > needed) {
            return open;
        }
        open.into_iter().filter(|&candidate| self.fills_required(Some(candidate))).collect()
    }

    /// `score`, less the penalty for being like what is shown.
    pub(super) fn adjusted(&self, candidate: usize, score: f64) -> f64 {
        match &self.constraints.diversity {
            Some(diversity) if !self.items.is_empty() => score - diversity.penalty * self.similar[candidate],
            _ => score,
        }
    }

    pub(super) fn push(&mut self, candidate: usize) {
        let pinned = !self.free[candidate];
        self.free[candidate] = false;
        if !pinned {
            for (cap, counts) in self.constraints.at_most.iter().zip(&mut self.counts) {
                cap.group[candidate].into_iter().for_each(|group| counts[group as usize] += 1);
            }
        }
        if let Some(diversity) = &self.constraints.diversity {
            let first = self.items.is_empty();
            for (other, similar) in self.similar.iter_mut().enumerate() {
                let similarity = diversity.similarity(other, candidate);
                *similar = if first { similarity } else { similar.max(similarity) };
            }
        }
        self.items.push(candidate);
    }

    /// Whether a candidate is neither shown nor pinned, nor over a cap.
    fn may_take(&self, candidate: usize) -> bool {
        let under = |(cap, counts): (&AtMost, &Vec<usize>)| {
            cap.group[candidate].is_none_or(|group| counts[group as usize] < cap.most)
        };
        self.free[candidate] && self.constraints.at_most.iter().zip(&self.counts).all(under)
    }

    /// The rules of required positions that are still to be filled.
    fn needed(&self) -> impl Iterator<Item = &'a Required> + '_ {
        let constraints = self.constraints;
        let later = self.items.len();
        constraints
            .required
            .iter()
            .filter(move |rule| rule.position > later && constraints.pin(rule.position).is_none())
    }

    fn eligible(&self, rule: &'a Required) -> impl Iterator<Item = usize> + '_ {
        (0..self.free.len()).filter(|&candidate| rule.eligible[candidate] && self.may_take(candidate))
    }

    /// Whether the required positions after the next can be filled by distinct candidates other than `taken`: a
    /// bipartite matching by augmenting paths (Kuhn 1955). With `None`, every required position counts.
    fn fills_required(&self, taken: Option<usize>) -> bool {
        let rules: Vec<&Required> = match taken {
            Some(_) => self.needed().collect(),
            None => self.constraints.required.iter().filter(|r| self.constraints.pin(r.position).is_none()).collect(),
        };
        let mut by_position: Vec<(usize, Vec<usize>)> = Vec::new();
        for rule in rules {
            // Several rules of one position must all hold.
            let eligible: Vec<usize> = self.eligible(rule).filter(|&candidate| Some(candidate) != taken).collect();
            match by_position.iter_mut().find(|(position, _)| *position == rule.position) {
                Some((_, both)) => both.retain(|candidate| eligible.contains(candidate)),
                None => by_position.push((rule.position, eligible)),
            }
        }
        let mut owner = vec![None; self.free.len()];
        (0..by_position.len()).all(|slot| assign(slot, &by_position, &mut owner, &mut vec![false; self.free.len()]))
    }
}

fn assign(slot: usize, slots: &[(usize, Vec<usize>)], owner: &mut [Option<usize>], seen: &mut [bool]) -> bool {
    slots[slot].1.iter().any(|&candidate| {
        if std::mem::replace(&mut seen[candidate], true) {
            return false;
        }
        let free = match owner[candidate] {
            None => true,
            Some(other) => assign(other, slots, owner, seen),
        };
        if free {
            owner[candidate] = Some(slot);
        }
        free
    })
}
