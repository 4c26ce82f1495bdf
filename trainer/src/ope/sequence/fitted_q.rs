//! Fitted Q evaluation.

use super::super::{Contributions, Estimator, OpeError};
use super::SequenceLog;
use super::fixed_point::{Equations, FixedPoint, dot};

/// Linear fitted Q evaluation: `mean(sum_a pi(a | s_0) q(s_0, a))`, `q = theta' phi` being the fixed point of repeated
/// regression of `r + gamma sum_a pi(a | s') q(s', a)` on `phi(s, a)`, solved at once instead of iterated (Le, Voloshin &
/// Yue 2019, arXiv:1903.08003; with linear features it attains the best possible error, Duan, Jia & Wang 2020,
/// arXiv:2002.09516). Needs no propensities; exact in the limit where q is linear in phi, as it is in the tabular case.
///
/// Its dual, the linear minimax density ratio of state-action pairs (Uehara, Huang & Jiang 2020, arXiv:1910.12809), gives
/// the same estimate as `mean(sum_t omega(s_t, a_t) r_t)`. The ratio also carries the uncertainty of theta into the
/// interval: an episode contributes `v(s_0) + sum_t omega(s_t, a_t) (r_t + gamma v(s_{t+1}) - q(s_t, a_t))`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FittedQ {
    /// The ridge, at least 0; on sums over steps, so that its weight fades as the log grows.
    pub lambda: f64,
}

impl FittedQ {
    /// Fits q for each of `folds` parts of the log from the other parts, and gives its predictions to every step, for
    /// [`super::SequentialDoublyRobust`] and [`super::WeightedDoublyRobust`].
    ///
    /// # Errors
    /// A log without features, fewer than two folds or episodes than folds, singular equations.
    pub fn predict(&self, log: &mut SequenceLog, folds: usize) -> Result<(), OpeError> {
        let (fits, of) = cross_fit(log, self.lambda, folds, "fitted_q")?;
        let (taken, expected, width) = log.features("fitted_q")?;
        let mut predictions = Vec::with_capacity(log.rewards().len());
        for (episode, steps) in log.episodes().enumerate() {
            let theta = &fits[of[episode]].theta;
            predictions.extend(steps.map(|step| {
                let features = step * width..(step + 1) * width;
                (dot(theta, &taken[features.clone()]), dot(theta, &expected[features]))
            }));
        }
        log.set_predictions(predictions);
        Ok(())
    }

    /// The density ratio `omega(s, a)` of each step: how often the evaluation policy would be there, discounted, for
    /// each time that the log was.
    ///
    /// # Errors
    /// A log without features, singular equations.
    pub fn density_ratios(&self, log: &SequenceLog) -> Result<Vec<f64>, OpeError> {
        let fit = FixedPoint::solve(&equations(log, |_| true, "fitted_q")?, self.lambda, "fitted_q")?;
        let (taken, _, width) = log.features("fitted_q")?;
        Ok(taken.chunks_exact(width).map(|phi| dot(&fit.ratio, phi)).collect())
    }
}

impl Estimator<SequenceLog> for FittedQ {
    fn name(&self) -> String {
        "fitted_q".to_owned()
    }

    fn contributions(&self, log: &SequenceLog) -> Result<Contributions, OpeError> {
        let equations = equations(log, |_| true, &self.name())?;
        let fit = FixedPoint::solve(&equations, self.lambda, &self.name())?;
        Ok(linear_contributions(log, &equations, &fit, self.lambda))
    }
}

/// What each episode contributes to the value of a fixed point: `y_0' theta`, and the effect of its own residuals on
/// theta. The residuals' effects sum to what the ridge leaves of them, which is taken off.
pub(super) fn linear_contributions(
    log: &SequenceLog,
    equations: &Equations,
    fit: &FixedPoint,
    lambda: f64,
) -> Contributions {
    let left = lambda * dot(&fit.ratio, &fit.theta) / equations.initial.len() as f64;
    let episode = |(steps, initial): (std::ops::Range<usize>, &&[f64])| {
        let effect: f64 = steps.map(|step| residual(equations, fit, step)).sum();
        dot(initial, &fit.theta) + effect - left
    };
    Contributions::mean(log.episodes().zip(&equations.initial).map(episode).collect())
}

/// `omega_t (r_t + gamma v_{t+1} - q_t)`.
pub(super) fn residual(equations: &Equations, fit: &FixedPoint, step: usize) -> f64 {
    let (x, next) = (equations.current[step], &equations.next[step]);
    dot(&fit.ratio, x) * (equations.reward[step] + dot(next, &fit.theta) - dot(x, &fit.theta))
}

/// The equations of q over the episodes that are `chosen`.
pub(super) fn equations<'a>(
    log: &'a SequenceLog,
    chosen: impl Fn(usize) -> bool,
    estimator: &str,
) -> Result<Equations<'a>, OpeError> {
    let (taken, expected, width) = log.features(estimator)?;
    let mut equations =
        Equations { width, current: Vec::new(), next: Vec::new(), reward: Vec::new(), initial: Vec::new() };
    let row = |rows: &'a [f64], step: usize| &rows[step * width..(step + 1) * width];
    for (_, steps) in log.episodes().enumerate().filter(|(episode, _)| chosen(*episode)) {
        equations.initial.push(row(expected, steps.start));
        for step in steps.clone() {
            let discounted = |y: &f64| log.discount() * y;
            let last = step + 1 == steps.end;
            let next = if last { vec![0.0; width] } else { row(expected, step + 1).iter().map(discounted).collect() };
            equations.current.push(row(taken, step));
            equations.next.push(next);
            equations.reward.push(log.rewards()[step]);
        }
    }
    Ok(equations)
}

/// A fixed point for each part of the log from the other parts, and the part of each episode.
pub(super) fn cross_fit(
    log: &SequenceLog,
    lambda: f64,
    folds: usize,
    estimator: &str,
) -> Result<(Vec<FixedPoint>, Vec<usize>), OpeError> {
    if folds < 2 {
        let (of, parameter) = (estimator.to_owned(), "folds");
        return Err(OpeError::Parameter { of, parameter, value: folds as f64, allowed: "at least 2 are needed" });
    }
    let of = log.folds(folds);
    let fit = |fold| {
        let equations = equations(log, |episode| of[episode] != fold, estimator)?;
        if equations.initial.is_empty() {
            return Err(OpeError::Empty("episode in the other folds"));
        }
        FixedPoint::solve(&equations, lambda, estimator)
    };
    Ok(((0..folds).map(fit).collect::<Result<_, _>>()?, of))
}
