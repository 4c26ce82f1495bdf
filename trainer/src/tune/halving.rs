//! Early stopping: which trial goes on.

/// The rungs of asynchronous successive halving (Li, Jamieson, Rostamizadeh, Gonina, Hardt, Recht & Talwalkar 2018,
/// arXiv:1810.05834, algorithm 2).
///
/// Each rung holds the trials that have come to its budget, with their losses. A trial goes on to the next rung as soon
/// as it is among the best `floor(n / reduction)` of the `n` in its rung.
#[derive(Debug)]
pub struct Rungs {
    reduction: usize,
    rungs: Vec<Vec<Entry>>,
    /// How many trials there will be.
    trials: usize,
    begun: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    trial: usize,
    /// Infinite where the trial failed.
    loss: f64,
    has_gone_on: bool,
}

/// What a trial is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    pub trial: usize,
    pub rung: usize,
}

impl Rungs {
    pub fn new(rungs: usize, reduction: usize, trials: usize) -> Self {
        Self { reduction, rungs: vec![Vec::new(); rungs], trials, begun: 0 }
    }

    /// The next thing to do given the results so far: the promotion from the highest rung that has one, or else the next
    /// trial; `None` where results must come first, or all is done.
    pub fn next(&mut self) -> Option<Job> {
        let below_the_last = self.rungs.len() - 1;
        for (rung, entries) in self.rungs[..below_the_last].iter_mut().enumerate().rev() {
            let best = entries.len() / self.reduction;
            let promoted = entries[..best].iter_mut().find(|entry| !entry.has_gone_on && entry.loss < f64::INFINITY);
            if let Some(entry) = promoted {
                entry.has_gone_on = true;
                return Some(Job { trial: entry.trial, rung: rung + 1 });
            }
        }
        let trial = self.begun;
        (trial < self.trials).then(|| {
            self.begun += 1;
            Job { trial, rung: 0 }
        })
    }

    /// A trial has come to its rung's budget with this loss.
    pub fn record(&mut self, Job { trial, rung }: Job, loss: f64) {
        let entries = &mut self.rungs[rung];
        // Kept in order, the best first; of equal ones the earlier trial.
        let at = entries.partition_point(|entry| (entry.loss, entry.trial) < (loss, trial));
        entries.insert(at, Entry { trial, loss, has_gone_on: false });
    }

    /// The trials with a result, the best first: those that came further before those that did not.
    pub fn ranked(&self) -> Vec<usize> {
        let mut seen = vec![false; self.begun];
        let ranked = self.rungs.iter().rev().flatten().map(|entry| entry.trial);
        ranked.filter(|trial| !std::mem::replace(&mut seen[*trial], true)).collect()
    }

    /// The trials that will never go on again, whatever is still to come: what they hold can be let go.
    pub fn settled(&self) -> Vec<usize> {
        let mut settled = Vec::new();
        // How many may still come to the rung.
        let mut coming = self.trials - self.rungs[0].len();
        for (rung, entries) in self.rungs.iter().enumerate() {
            let is_last = rung + 1 == self.rungs.len();
            let most = if is_last { 0 } else { (entries.len() + coming) / self.reduction };
            let stays = |(rank, entry): (usize, &Entry)| {
                (!entry.has_gone_on && (rank >= most || entry.loss == f64::INFINITY)).then_some(entry.trial)
            };
            let here = settled.len();
            settled.extend(entries.iter().enumerate().filter_map(stays));
            let may_go_on = entries.len() - (settled.len() - here);
            coming = (coming + may_go_on).saturating_sub(self.rungs.get(rung + 1).map_or(0, Vec::len));
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does one job after the other, and returns them as (trial, rung).
    fn jobs(rungs: &mut Rungs, loss: impl Fn(Job) -> f64) -> Vec<(usize, usize)> {
        let mut done = Vec::new();
        while let Some(job) = rungs.next() {
            rungs.record(job, loss(job));
            done.push((job.trial, job.rung));
        }
        done
    }

    #[test]
    fn the_best_in_three_goes_on() {
        let losses = [0.5, 0.2, 0.9, 0.8, 0.1, 0.7, 0.3, 0.6, 0.4];
        let mut rungs = Rungs::new(3, 3, 9);
        let done = jobs(&mut rungs, |Job { trial, .. }| losses[trial]);
        let expected = [
            (0, 0),
            (1, 0),
            (2, 0),
            (1, 1), // The best of three.
            (3, 0),
            (4, 0),
            (4, 1), // The best of five.
            (5, 0),
            (6, 0),
            (7, 0),
            (8, 0),
            (6, 1), // The third of the best three of nine; the other two have gone on.
            (4, 2), // The best of the three above.
        ];
        assert_eq!(done, expected);
        assert_eq!(rungs.ranked(), [4, 1, 6, 8, 0, 7, 5, 3, 2]);
        let mut settled = rungs.settled();
        settled.sort_unstable();
        assert_eq!(settled, (0..9).collect::<Vec<_>>());
    }

    #[test]
    fn the_rungs_above_wait_for_results() {
        let mut rungs = Rungs::new(2, 2, 3);
        let [first, second, third] = [0, 1, 2].map(|_| rungs.next().unwrap());
        assert_eq!(rungs.next(), None);
        rungs.record(third, 0.1);
        assert_eq!(rungs.next(), None, "it might be the worse of two");
        rungs.record(first, 0.2);
        assert_eq!(rungs.next(), Some(Job { trial: 2, rung: 1 }));
        rungs.record(second, 0.3);
        assert_eq!(rungs.next(), None);
    }

    #[test]
    fn a_trial_is_let_go_only_when_nothing_can_bring_it_back() {
        let mut rungs = Rungs::new(2, 2, 4);
        let jobs = [0, 1, 2].map(|_| rungs.next().unwrap());
        for (job, loss) in jobs.into_iter().zip([0.1, 0.2, 0.3]) {
            rungs.record(job, loss);
        }
        // At most two of the four go on, and the third is behind two already.
        assert_eq!(rungs.settled(), [2]);
    }

    #[test]
    fn a_failed_trial_never_goes_on() {
        let mut rungs = Rungs::new(2, 2, 2);
        assert_eq!(jobs(&mut rungs, |_| f64::INFINITY), [(0, 0), (1, 0)]);
        assert_eq!(rungs.settled(), [0, 1]);
    }
}
