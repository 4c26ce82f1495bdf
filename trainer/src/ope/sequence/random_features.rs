//! Features in which a value that is smooth in state and item is nearly linear.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// A constant, the standardised numbers of a row, and random Fourier features
/// `sqrt(2 / D) cos(w' z / l + b)` of them, w standard normal, b uniform over a turn: sums of these approach any function
/// of the space of the Gaussian kernel of width l (Rahimi & Recht 2007, "Random features for large-scale kernel machines",
/// NIPS 20). l is the square root of the number of columns that vary, about the distance of two rows.
#[derive(Debug, Clone)]
pub struct RandomFeatures {
    /// By column: the mean, and one over the deviation; 0 for a column that never varies.
    scaling: Vec<(f64, f64)>,
    /// `[D][columns]`, by 1 / l.
    frequencies: Vec<Vec<f64>>,
    shifts: Vec<f64>,
}

impl RandomFeatures {
    /// So many random features, drawn from `seed`, scaled to rows of one length; there must be one at least.
    #[must_use]
    pub fn fit<'a>(rows: impl Iterator<Item = &'a [f32]>, count: usize, seed: u64) -> Self {
        let (mut sums, mut number): (Vec<(f64, f64)>, f64) = (Vec::new(), 0.0);
        for row in rows {
            sums.resize(row.len(), (0.0, 0.0));
            number += 1.0;
            for (moments, &value) in sums.iter_mut().zip(row) {
                moments.0 += f64::from(value);
                moments.1 += f64::from(value).powi(2);
            }
        }
        let scaling: Vec<(f64, f64)> = sums
            .into_iter()
            .map(|(sum, squares)| {
                let mean = sum / number;
                let variance = squares / number - mean * mean;
                (mean, if variance > 1e-12 * (1.0 + mean * mean) { variance.sqrt().recip() } else { 0.0 })
            })
            .collect();
        let varying = scaling.iter().filter(|(_, scale)| *scale > 0.0).count();
        let width = (varying.max(1) as f64).sqrt();
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let frequencies = (0..count)
            .map(|_| {
                scaling
                    .iter()
                    .map(|_| {
                        let w: f64 = StandardNormal.sample(&mut generator);
                        w / width
                    })
                    .collect()
            })
            .collect();
        let shifts = (0..count).map(|_| generator.random::<f64>() * std::f64::consts::TAU).collect();
        Self { scaling, frequencies, shifts }
    }

    /// How many numbers a row becomes.
    #[must_use]
    pub fn width(&self) -> usize {
        1 + self.scaling.len() + self.shifts.len()
    }

    /// Adds the features of a row, `weight` times, to `sum`, which has [`Self::width`] numbers.
    pub fn add(&self, row: &[f32], weight: f64, sum: &mut [f64]) {
        let standard: Vec<f64> =
            row.iter().zip(&self.scaling).map(|(&value, (mean, scale))| (f64::from(value) - mean) * scale).collect();
        let height = weight * (2.0 / self.shifts.len().max(1) as f64).sqrt();
        let waves = self.frequencies.iter().zip(&self.shifts).map(|(frequency, shift)| {
            let angle: f64 = frequency.iter().zip(&standard).map(|(w, z)| w * z).sum();
            height * (angle + shift).cos()
        });
        let plain = standard.iter().map(|z| weight * z);
        sum.iter_mut().zip([weight].into_iter().chain(plain).chain(waves)).for_each(|(sum, value)| *sum += value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn their_products_are_the_gaussian_kernel() {
        let mut generator = ChaCha8Rng::seed_from_u64(5);
        let rows: Vec<Vec<f32>> = (0..200)
            .map(|_| vec![3.0 + 10.0 * generator.random::<f32>(), generator.random::<f32>() - 7.0, 1.0])
            .collect();
        let features = RandomFeatures::fit(rows.iter().map(Vec::as_slice), 20_000, 1);
        let of = |row: &[f32]| {
            let mut sum = vec![0.0; features.width()];
            features.add(row, 1.0, &mut sum);
            sum
        };
        // A uniform number has the deviation 1 / sqrt(12); the last column never varies.
        let standard =
            |row: &[f32]| [(f64::from(row[0]) - 8.0) / 10.0, f64::from(row[1]) + 6.5].map(|z| z * 12_f64.sqrt());
        for pair in rows.windows(2).take(50) {
            let (a, b) = (of(&pair[0]), of(&pair[1]));
            let product: f64 = a[4..].iter().zip(&b[4..]).map(|(a, b)| a * b).sum();
            let (x, y) = (standard(&pair[0]), standard(&pair[1]));
            let distance: f64 = x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum();
            let kernel = (-distance / 4.0).exp();
            // The scaling is that of the sample, some percent off.
            assert!((product - kernel).abs() < 0.06, "{product} {kernel}");
            assert_eq!((a[0], a[3]), (1.0, 0.0));
        }
    }
}
