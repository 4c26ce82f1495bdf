//! Priorities that can be drawn from in proportion, in logarithmic time.

/// A binary tree of sums over a fixed number of leaves.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SumTree {
    leaves: usize,
    /// Node 1 is the root, node i has the children 2 i and 2 i + 1.
    sums: Vec<f64>,
}

impl SumTree {
    /// All zero.
    pub fn new(leaves: usize) -> Self {
        let leaves = leaves.max(1).next_power_of_two();
        Self { leaves, sums: vec![0.0; 2 * leaves] }
    }

    pub fn set(&mut self, leaf: usize, value: f64) {
        let mut node = self.leaves + leaf;
        self.sums[node] = value;
        while node > 1 {
            node /= 2;
            // Summed anew rather than adjusted by a difference, so that rounding does not pile up.
            self.sums[node] = self.sums[2 * node] + self.sums[2 * node + 1];
        }
    }

    pub fn get(&self, leaf: usize) -> f64 {
        self.sums[self.leaves + leaf]
    }

    pub fn total(&self) -> f64 {
        self.sums[1]
    }

    /// The leaf at `point`, from 0 to the total.
    pub fn find(&self, mut point: f64) -> usize {
        let mut node = 1;
        while node < self.leaves {
            node *= 2;
            // A point that rounding carries past the last positive leaf must not end on an empty one.
            if point >= self.sums[node] && self.sums[node + 1] > 0.0 {
                point -= self.sums[node];
                node += 1;
            }
        }
        node - self.leaves
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_fall_into_leaves_in_proportion() {
        let mut tree = SumTree::new(5);
        for (leaf, value) in [1.0, 0.0, 3.0, 2.0].into_iter().enumerate() {
            tree.set(leaf, value);
        }
        assert_eq!(tree.total(), 6.0);
        let found: Vec<usize> =
            [0.0, 0.99, 1.0, 3.99, 4.0, 5.99, 6.0].into_iter().map(|point| tree.find(point)).collect();
        assert_eq!(found, [0, 0, 2, 2, 3, 3, 3]);
        tree.set(2, 0.0);
        assert_eq!((tree.total(), tree.find(1.5)), (3.0, 3));
    }
}
