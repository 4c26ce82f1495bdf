//! Adam over a flat vector of parameters.

use serde::{Deserialize, Serialize};

use super::dense::wide;

/// Adam's settings (Kingma & Ba 2015, arXiv:1412.6980), with decoupled weight decay (Loshchilov & Hutter 2019,
/// arXiv:1711.05101).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamSettings {
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decay of the weights per step, as a share of the step size.
    pub weight_decay: f64,
}

impl Default for AdamSettings {
    fn default() -> Self {
        Self { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

impl AdamSettings {
    /// The first setting outside its range, with what is allowed.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let share = |name: &str, value: f64| {
            (!(0.0..1.0).contains(&value))
                .then(|| format!("`optimisation.adam.{name}` is {value}, allowed are 0 up to below 1"))
        };
        let positive = |name: &str, value: f64| {
            (!(value.is_finite() && value > 0.0))
                .then(|| format!("`optimisation.adam.{name}` is {value}, it must be finite and above 0"))
        };
        positive("learning_rate", self.learning_rate)
            .or_else(|| share("beta1", self.beta1))
            .or_else(|| share("beta2", self.beta2))
            .or_else(|| positive("epsilon", self.epsilon))
            .or_else(|| share("weight_decay", self.weight_decay))
    }
}

/// The optimiser's state.
#[derive(Debug, Clone, PartialEq)]
pub struct Adam {
    settings: AdamSettings,
    /// First moments.
    pub first: Vec<f32>,
    /// Second moments.
    pub second: Vec<f32>,
    /// Steps taken.
    pub steps: u64,
}

impl Adam {
    /// For `length` parameters.
    #[must_use]
    pub fn new(settings: AdamSettings, length: usize) -> Self {
        Self { settings, first: vec![0.0; length], second: vec![0.0; length], steps: 0 }
    }

    /// One step: `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
    /// `w -= rate (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon) + decay w)`. `scale` multiplies the step size, for
    /// schedules.
    pub fn step(&mut self, parameters: &mut [f32], gradient: &[f32], scale: f64) {
        self.steps += 1;
        let AdamSettings { learning_rate, beta1, beta2, epsilon, weight_decay } = self.settings;
        let rate = learning_rate * scale;
        let t = self.steps as f64;
        let root = (1.0 - beta2.powf(t)).sqrt();
        // The corrections are folded into the step size and epsilon, so that the loop divides once.
        let step = (rate * root / (1.0 - beta1.powf(t))) as f32;
        let epsilon = (epsilon * root) as f32;
        let shrink = (1.0 - rate * weight_decay) as f32;
        let (b1, b2) = (beta1 as f32, beta2 as f32);
        let moments = self.first.iter_mut().zip(&mut self.second);
        wide(
            #[inline(always)]
            || {
                for ((weight, &g), (m, v)) in parameters.iter_mut().zip(gradient).zip(moments) {
                    *m = b1 * *m + (1.0 - b1) * g;
                    *v = b2 * *v + (1.0 - b2) * g * g;
                    *weight = shrink * *weight - step * *m / (v.sqrt() + epsilon);
                }
            },
        );
    }
}

/// Scales the gradient down to an Euclidean length of at most `most`; returns the length it had. NaN where the
/// gradient holds one.
pub fn clip_to_norm(gradient: &mut [f32], most: Option<f64>) -> f64 {
    // Sixteen partial sums let the compiler use wide registers, and lose less than one long sum.
    let mut sums = [0.0_f32; 16];
    let chunks = gradient.chunks_exact(16);
    let rest: f64 = chunks.remainder().iter().map(|&g| f64::from(g) * f64::from(g)).sum();
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, &g)| *sum += g * g);
    }
    let norm = (sums.iter().map(|&sum| f64::from(sum)).sum::<f64>() + rest).sqrt();
    if let Some(most) = most.filter(|&most| norm > most) {
        let factor = (most / norm) as f32;
        gradient.iter_mut().for_each(|g| *g *= factor);
    }
    norm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_has_the_size_of_the_rate() {
        let mut adam = Adam::new(AdamSettings { learning_rate: 0.1, ..AdamSettings::default() }, 2);
        let mut weights = [1.0, -1.0];
        adam.step(&mut weights, &[3.0, -0.01], 1.0);
        assert!((weights[0] - 0.9).abs() < 1e-5 && (weights[1] + 0.9).abs() < 1e-5, "{weights:?}");
    }

    #[test]
    fn a_long_gradient_is_cut_and_a_short_one_kept() {
        let mut gradient = vec![1.0; 25];
        assert!((clip_to_norm(&mut gradient, Some(10.0)) - 5.0).abs() < 1e-9);
        assert_eq!(gradient, [1.0; 25]);
        clip_to_norm(&mut gradient, Some(1.0));
        assert!((clip_to_norm(&mut gradient, None) - 1.0).abs() < 1e-6);
        gradient[3] = f32::NAN;
        assert!(clip_to_norm(&mut gradient, Some(1.0)).is_nan());
    }

    #[test]
    fn a_negative_rate_is_refused_by_name() {
        let settings = AdamSettings { learning_rate: -1.0, ..AdamSettings::default() };
        assert!(settings.problem().unwrap().contains("adam.learning_rate"));
        assert_eq!(AdamSettings::default().problem(), None);
    }
}
