//! Losses of one number, with their gradients.

/// Huber's loss (1964, doi:10.1214/aoms/1177703732) of an error, with its derivative: square up to 1, then linear.
pub(super) fn huber(error: f32) -> (f32, f32) {
    let size = error.abs();
    if size <= 1.0 { (0.5 * error * error, error) } else { (size - 0.5, error.signum()) }
}

/// The quantile Huber loss of N predicted quantiles against M target samples (Dabney et al. 2018, arXiv:1710.10044):
/// `sum_i mean_j |tau_i - 1{t_j < q_i}| huber(t_j - q_i)` with `tau_i = (i + 1/2) / N`. Writes the derivative by each
/// quantile to `gradient`.
pub(super) fn quantile_huber(quantiles: &[f32], targets: &[f32], gradient: &mut [f32]) -> f32 {
    let (n, m) = (quantiles.len() as f32, targets.len() as f32);
    let mut loss = 0.0;
    for (index, (&quantile, gradient)) in quantiles.iter().zip(gradient).enumerate() {
        let tau = (index as f32 + 0.5) / n;
        let mut slope = 0.0;
        for &target in targets {
            let error = target - quantile;
            let weight = if error < 0.0 { 1.0 - tau } else { tau };
            let (part, derivative) = huber(error);
            loss += weight * part / m;
            slope -= weight * derivative / m;
        }
        *gradient = slope;
    }
    loss
}

/// The expectile loss of an error, with its derivative: `|tau - 1{u < 0}| u^2` (Newey & Powell 1987, doi:10.2307/1911031).
pub(super) fn expectile(error: f32, tau: f32) -> (f32, f32) {
    let weight = if error < 0.0 { 1.0 - tau } else { tau };
    (weight * error * error, 2.0 * weight * error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_equal_differences() {
        let (quantiles, targets) = ([-0.5, 0.3, 2.5], [0.1, -2.0, 1.0, 0.31]);
        let mut gradient = [0.0; 3];
        quantile_huber(&quantiles, &targets, &mut gradient);
        for at in 0..3 {
            let moved = |by: f32| {
                let mut quantiles = quantiles;
                quantiles[at] += by;
                quantile_huber(&quantiles, &targets, &mut [0.0; 3])
            };
            let difference = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((gradient[at] - difference).abs() < 1e-2, "{at}: {} is not {difference}", gradient[at]);
        }
        for error in [-1.5_f32, -0.2, 0.4, 2.0] {
            let difference = (expectile(error + 1e-2, 0.8).0 - expectile(error - 1e-2, 0.8).0) / 2e-2;
            assert!((expectile(error, 0.8).1 - difference).abs() < 1e-3, "{error}");
        }
        assert_eq!(huber(0.5), (0.125, 0.5));
        assert_eq!(huber(-3.0), (2.5, -1.0));
    }

    #[test]
    fn the_quantiles_of_a_sample_are_where_the_slope_vanishes() {
        // Two quantiles, tau = 1/4 and 3/4, of targets far apart: the slope changes sign between them.
        let targets = [0.0, 10.0, 20.0, 30.0];
        let mut gradient = [0.0; 2];
        quantile_huber(&[5.0, 25.0], &targets, &mut gradient);
        assert!(gradient.iter().all(|slope| slope.abs() < 1e-6), "{gradient:?}");
    }
}
