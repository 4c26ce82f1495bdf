//! How far two distributions lie apart.

/// What is added to the share of a bin, so that one that is empty in one window does not make the index infinite.
const SMOOTHING: f64 = 0.5;

/// The population stability index of counts by bin: `sum_b (q_b - p_b) ln(q_b / p_b)`, p the shares of the reference and q
/// those of today; the symmetric Kullback-Leibler divergence of Jeffreys (1946, doi:10.1098/rspa.1946.0056). Each count
/// has half an observation added to it.
#[must_use]
pub fn population_stability(reference: &[u64], current: &[u64]) -> f64 {
    let share = |counts: &[u64], bin: usize| {
        let total = counts.iter().sum::<u64>() as f64 + SMOOTHING * counts.len() as f64;
        (counts[bin] as f64 + SMOOTHING) / total
    };
    (0..reference.len().min(current.len()))
        .map(|bin| {
            let (p, q) = (share(reference, bin), share(current, bin));
            (q - p) * (q / p).ln()
        })
        .sum()
}

/// The Jensen-Shannon divergence of counts by bin, in bits, from 0 to 1: `H((p + q) / 2) - (H(p) + H(q)) / 2` (Lin 1991,
/// doi:10.1109/18.61115). 0 where one side holds nothing.
#[must_use]
pub fn jensen_shannon(reference: &[u64], current: &[u64]) -> f64 {
    let totals = [reference, current].map(|counts| counts.iter().sum::<u64>() as f64);
    if totals.contains(&0.0) {
        return 0.0;
    }
    let against = |p: f64, mean: f64| if p > 0.0 { p * (p / mean).log2() } else { 0.0 };
    let parts = reference.iter().zip(current).map(|(&p, &q)| {
        let (p, q) = (p as f64 / totals[0], q as f64 / totals[1]);
        let mean = f64::midpoint(p, q);
        f64::midpoint(against(p, mean), against(q, mean))
    });
    parts.sum::<f64>().clamp(0.0, 1.0)
}

/// The two-sample Kolmogorov-Smirnov statistic `sup_x |F(x) - G(x)|` of values in ascending order, with the probability of
/// one as great where both come from one distribution: the limit `2 sum_k (-1)^(k-1) exp(-2 k^2 l^2)`, l the statistic times
/// `sqrt(n m / (n + m))` (Smirnov 1948, doi:10.1214/aoms/1177730256). `(0, 1)` where one side holds nothing.
#[must_use]
pub fn kolmogorov_smirnov(reference: &[f64], current: &[f64]) -> (f64, f64) {
    let (n, m) = (reference.len(), current.len());
    if n == 0 || m == 0 {
        return (0.0, 1.0);
    }
    let (mut i, mut j, mut statistic) = (0, 0, 0.0_f64);
    while i < n && j < m {
        let value = reference[i].min(current[j]);
        // Past all that is equal on both sides: the functions step there at once.
        i += reference[i..].iter().take_while(|x| **x <= value).count();
        j += current[j..].iter().take_while(|x| **x <= value).count();
        statistic = statistic.max((i as f64 / n as f64 - j as f64 / m as f64).abs());
    }
    let scaled = statistic * ((n * m) as f64 / (n + m) as f64).sqrt();
    // The series alternates and does not settle where it is nearly 1.
    if scaled < 0.2 {
        return (statistic, 1.0);
    }
    let term = |k: i32| {
        let sign = if k % 2 == 1 { 2.0 } else { -2.0 };
        sign * (-2.0 * f64::from(k * k) * scaled * scaled).exp()
    };
    (statistic, (1..=100).map(term).sum::<f64>().clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_of_small_samples_are_those_by_hand() {
        // (2.5/4 against 1.5/4) twice, with half an observation added to counts of 2 and 1 in three.
        let by_hand = 2.0 * (2.5 / 4.0 - 1.5 / 4.0) * (2.5_f64 / 1.5).ln();
        assert!((population_stability(&[2, 1], &[1, 2]) - by_hand).abs() < 1e-12);
        assert_eq!(population_stability(&[5, 5], &[5, 5]), 0.0);
        assert_eq!(jensen_shannon(&[10, 0], &[0, 3]), 1.0);
        // H(3/8) of a coin against the mean of H(1/2) and H(1/4).
        let entropy = |p: f64| -p * p.log2() - (1.0 - p) * (1.0 - p).log2();
        let by_hand = entropy(0.375) - f64::midpoint(entropy(0.5), entropy(0.25));
        assert!((jensen_shannon(&[1, 1], &[1, 3]) - by_hand).abs() < 1e-12);
        // scipy.stats.ks_2samp([1, 2, 2, 3, 7], [2, 2.5, 8, 9]): at 2.5 and at 7, 4/5 and 1 stand against 1/2.
        let (statistic, _) = kolmogorov_smirnov(&[1.0, 2.0, 2.0, 3.0, 7.0], &[2.0, 2.5, 8.0, 9.0]);
        assert!((statistic - 0.5).abs() < 1e-12);
        // The limit's quantile of 95% is 1.3581.
        let far: Vec<f64> = (0..20_000).map(f64::from).collect();
        let near: Vec<f64> = far.iter().map(|x| x + 1.3581 * 200.0).collect();
        let (statistic, p) = kolmogorov_smirnov(&far, &near);
        assert!((statistic - 0.013_581).abs() < 1e-4 && (p - 0.05).abs() < 1e-3, "{statistic} {p}");
    }
}
