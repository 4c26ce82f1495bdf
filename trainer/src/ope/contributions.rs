//! What each row of a log contributes to an estimate.
//!
//! Every estimator here is a sum of ratios of means, `V = sum_j c_j (sum_i a_ij) / (sum_i b_ij)`, the rows i being
//! rounds, slates or episodes; a plain mean has `b_ij = 1`. Written so, point estimate, bootstrap, linearisation,
//! clustering by user and the paired difference of two policies are each written once.

/// The contributions of the rows of a log to one estimate.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Contributions {
    rows: usize,
    terms: Vec<Term>,
}

/// One ratio of means.
#[derive(Debug, Clone, PartialEq)]
struct Term {
    /// c.
    coefficient: f64,
    /// a, by row.
    numerator: Vec<f64>,
    /// b, by row; `None` where it is 1 for all.
    denominator: Option<Vec<f64>>,
}

impl Contributions {
    /// `mean(values)`.
    #[must_use]
    pub fn mean(values: Vec<f64>) -> Self {
        Self { rows: values.len(), terms: vec![Term { coefficient: 1.0, numerator: values, denominator: None }] }
    }

    /// `sum(numerator) / sum(denominator)`; both of one length.
    #[must_use]
    pub fn ratio(numerator: Vec<f64>, denominator: Vec<f64>) -> Self {
        debug_assert_eq!(numerator.len(), denominator.len());
        let rows = numerator.len();
        Self { rows, terms: vec![Term { coefficient: 1.0, numerator, denominator: Some(denominator) }] }
    }

    /// This estimate times a constant.
    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Self {
        self.terms.iter_mut().for_each(|term| term.coefficient *= factor);
        self
    }

    /// This estimate plus another one from the same rows.
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        debug_assert!(self.terms.is_empty() || self.rows == other.rows);
        self.rows = other.rows;
        for term in other.terms {
            let plain = self.terms.iter_mut().find(|known| known.denominator.is_none() && term.denominator.is_none());
            match plain {
                // The sum of two means is one mean: half the work for the bootstrap.
                Some(known) => {
                    for (sum, value) in known.numerator.iter_mut().zip(&term.numerator) {
                        *sum = known.coefficient * *sum + term.coefficient * value;
                    }
                    known.coefficient = 1.0;
                }
                None => self.terms.push(term),
            }
        }
        self
    }

    /// This estimate minus another one from the same rows: the paired difference of two policies.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.plus(other.scaled(-1.0))
    }

    /// How many rows, which are taken to be independent.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// The rows of each cluster summed into one, so that clusters instead of rows are taken to be independent.
    /// `clusters` holds the cluster of each row, numbered from 0 without gaps.
    #[must_use]
    pub fn by_cluster(&self, clusters: &[u32]) -> Self {
        let count = clusters.iter().max().map_or(0, |last| *last as usize + 1);
        let sum = |values: &mut dyn Iterator<Item = f64>| {
            let mut sums = vec![0.0; count];
            values.zip(clusters).for_each(|(value, &cluster)| sums[cluster as usize] += value);
            sums
        };
        let terms = self.terms.iter().map(|term| Term {
            coefficient: term.coefficient,
            numerator: sum(&mut term.numerator.iter().copied()),
            denominator: Some(match &term.denominator {
                Some(denominator) => sum(&mut denominator.iter().copied()),
                None => sum(&mut std::iter::repeat_n(1.0, self.rows)),
            }),
        });
        Self { rows: count, terms: terms.collect() }
    }

    /// The estimate; `None` where a denominator is 0.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        self.ratios().map(|ratios| ratios.iter().zip(&self.terms).map(|(ratio, term)| term.coefficient * ratio).sum())
    }

    /// Values whose mean is the estimate and whose deviation divided by the root of their number is its standard
    /// error, to first order (the delta method): `V + sum_j c_j (a_ij - R_j b_ij) / mean(b_j)`, `R_j` being the j-th
    /// ratio. Exact where all terms are plain means.
    #[must_use]
    pub fn linearised(&self) -> Option<Vec<f64>> {
        let ratios = self.ratios()?;
        let value = self.value()?;
        let mut values = vec![0.0; self.rows];
        for (term, ratio) in self.terms.iter().zip(ratios) {
            match &term.denominator {
                None => {
                    let rows = values.iter_mut().zip(&term.numerator);
                    rows.for_each(|(sum, a)| *sum += term.coefficient * a);
                }
                Some(denominator) => {
                    let scale = term.coefficient * self.rows as f64 / denominator.iter().sum::<f64>();
                    let rows = values.iter_mut().zip(term.numerator.iter().zip(denominator));
                    rows.for_each(|(sum, (a, b))| *sum += term.coefficient * ratio + scale * (a - ratio * b));
                }
            }
        }
        debug_assert!((values.iter().sum::<f64>() / self.rows as f64 - value).abs() <= 1e-6 * value.abs().max(1.0));
        Some(values)
    }

    /// The columns side by side, row-major, for resampling.
    pub(super) fn table(&self) -> Table {
        let width = self.terms.iter().map(|term| 1 + usize::from(term.denominator.is_some())).sum();
        let mut cells = Vec::with_capacity(self.rows * width);
        for row in 0..self.rows {
            for term in &self.terms {
                cells.push(term.numerator[row]);
                cells.extend(term.denominator.as_ref().map(|denominator| denominator[row]));
            }
        }
        let terms = self.terms.iter().map(|term| (term.coefficient, term.denominator.is_some())).collect();
        Table { rows: self.rows, width, cells, terms }
    }

    fn ratios(&self) -> Option<Vec<f64>> {
        let ratio = |term: &Term| {
            let denominator = match &term.denominator {
                Some(denominator) => denominator.iter().sum::<f64>(),
                None => self.rows as f64,
            };
            (denominator != 0.0).then(|| term.numerator.iter().sum::<f64>() / denominator)
        };
        self.terms.iter().map(ratio).collect()
    }
}

/// Contributions laid out for resampling: `[rows, width]`.
pub(super) struct Table {
    pub rows: usize,
    width: usize,
    cells: Vec<f64>,
    /// c, and whether a denominator's column follows the numerator's.
    terms: Vec<(f64, bool)>,
}

impl Table {
    /// The estimate from as many rows as the table has, each chosen by `draw`; `None` where a denominator is 0.
    pub fn resampled(&self, mut draw: impl FnMut() -> usize, sums: &mut Vec<f64>) -> Option<f64> {
        sums.clear();
        sums.resize(self.width, 0.0);
        for _ in 0..self.rows {
            let row = draw() * self.width;
            sums.iter_mut().zip(&self.cells[row..row + self.width]).for_each(|(sum, cell)| *sum += cell);
        }
        let mut sums = sums.iter();
        let mut value = 0.0;
        for &(coefficient, divided) in &self.terms {
            let numerator = sums.next()?;
            let denominator = if divided { *sums.next()? } else { self.rows as f64 };
            if denominator == 0.0 {
                return None;
            }
            value += coefficient * numerator / denominator;
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_of_means_is_one_mean() {
        let difference = Contributions::mean(vec![1.0, 4.0]).minus(Contributions::mean(vec![2.0, 1.0]).scaled(0.5));
        assert_eq!(difference, Contributions::mean(vec![0.0, 3.5]));
    }

    #[test]
    fn a_ratio_is_linearised_around_its_value() {
        let ratio = Contributions::ratio(vec![1.0, 0.0, 3.0], vec![2.0, 1.0, 1.0]);
        assert_eq!(ratio.value(), Some(1.0));
        // 1 + (a - b) / (4 / 3).
        assert_eq!(ratio.linearised().unwrap(), [0.25, 0.25, 2.5]);
    }

    #[test]
    fn clusters_keep_the_value() {
        let all = Contributions::ratio(vec![1.0, 2.0, 3.0], vec![1.0, 1.0, 2.0])
            .plus(Contributions::mean(vec![5.0, 6.0, 7.0]));
        let clustered = all.by_cluster(&[0, 1, 0]);
        assert_eq!((clustered.rows(), clustered.value()), (2, all.value()));
        assert_eq!(clustered.value(), Some(1.5 + 6.0));
    }

    #[test]
    fn nothing_to_divide_by_is_no_number() {
        assert_eq!(Contributions::ratio(vec![1.0], vec![0.0]).value(), None);
        assert_eq!(Contributions::mean(Vec::new()).value(), None);
    }
}
