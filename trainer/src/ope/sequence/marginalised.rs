//! Estimators by the density ratio of where the policies go, instead of by products of weights over whole episodes: their
//! variance does not grow exponentially with the length of the episode.

use super::super::{Contributions, Estimator, OpeError};
use super::SequenceLog;
use super::fitted_q::{cross_fit, equations, linear_contributions, residual};
use super::fixed_point::{Equations, FixedPoint};

/// State-marginalised importance sampling: `mean(sum_t omega(s_t) rho_t r_t)` with `rho_t = pi(a_t | s_t) / p_t` of the
/// step alone and omega the ratio of how often both policies visit a state (Liu, Li, Tang & Zhou 2018, arXiv:1810.12429;
/// Xie, Ma & Wang 2019, arXiv:1906.03393).
///
/// omega is linear in the state's features x and solves `sum_t omega(s_t) (x_t - gamma rho_t x_{t+1}) = sum x_0`, the
/// balance of visits: exact in the limit where the ratio or the value is linear in x, as both are in the tabular case. The
/// interval carries the uncertainty of omega, through the dual as in [`super::FittedQ`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StateMarginalisedIs {
    /// The ridge, at least 0; on sums over steps, so that its weight fades as the log grows.
    pub lambda: f64,
}

/// Double reinforcement learning: `mean(v(s_0) + sum_t omega(s_t, a_t) (r_t + gamma v(s_{t+1}) - q(s_t, a_t)))`, q and the
/// density ratio omega each fitted from the other parts of the log.
///
/// Consistent where either is, without propensities, and efficient where both are (Kallus & Uehara 2020,
/// arXiv:1908.08526).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DoubleReinforcement {
    /// The ridge, at least 0; on sums over steps.
    pub lambda: f64,
    /// Into how many parts the log is divided, at least 2; a user is in one of them.
    pub folds: usize,
}

impl Estimator<SequenceLog> for StateMarginalisedIs {
    fn name(&self) -> String {
        "state_marginalised_is".to_owned()
    }

    fn contributions(&self, log: &SequenceLog) -> Result<Contributions, OpeError> {
        let (states, width) = log.states(&self.name())?;
        let (ratios, rewards) = (log.ratios(), log.rewards());
        let row = |step: usize| &states[step * width..(step + 1) * width];
        let mut equations =
            Equations { width, current: Vec::new(), next: Vec::new(), reward: Vec::new(), initial: Vec::new() };
        for steps in log.episodes() {
            equations.initial.push(row(steps.start));
            for step in steps.clone() {
                let discount = if step + 1 == steps.end { 0.0 } else { log.discount() * ratios[step] };
                let after = row((step + 1).min(steps.end - 1));
                equations.current.push(row(step));
                equations.next.push(after.iter().map(|x| discount * x).collect());
                equations.reward.push(ratios[step] * rewards[step]);
            }
        }
        let fit = FixedPoint::solve(&equations, self.lambda, &self.name())?;
        Ok(linear_contributions(log, &equations, &fit, self.lambda))
    }
}

impl Estimator<SequenceLog> for DoubleReinforcement {
    fn name(&self) -> String {
        "drl".to_owned()
    }

    fn contributions(&self, log: &SequenceLog) -> Result<Contributions, OpeError> {
        let (fits, of) = cross_fit(log, self.lambda, self.folds, &self.name())?;
        let all = equations(log, |_| true, &self.name())?;
        let episode = |(episode, steps): (usize, std::ops::Range<usize>)| {
            let fit = &fits[of[episode]];
            let corrections: f64 = steps.map(|step| residual(&all, fit, step)).sum();
            super::fixed_point::dot(all.initial[episode], &fit.theta) + corrections
        };
        Ok(Contributions::mean(log.episodes().enumerate().map(episode).collect()))
    }
}
