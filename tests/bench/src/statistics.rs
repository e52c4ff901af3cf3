//! The ratio of pairs of measurements, with its interval.

use cpython_cds_tests::measure::median;
use serde::{Deserialize, Serialize};

/// Number of resamples of the bootstrap.
const RESAMPLES: usize = 10_000;

/// A ratio is noisy if half of its interval's width, relative to the ratio, is larger.
const NOISY: f64 = 0.05;

/// How many times faster one thing is than another: the median of the ratios of pairs, with the 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Ratio {
    /// The ratio of pairs; both values of a pair are from the same round. The interval is a percentile bootstrap: in
    /// each draw, as many pairs as there are in total are drawn with replacement. The bounds are percentiles of the
    /// medians of many draws. The draws are the same each time.
    ///
    /// If there are several `ratios`, all their intervals together are right in 95 of 100 measurements. So each
    /// interval is wider (Bonferroni's correction).
    ///
    /// None if there are no pairs.
    pub fn of_pairs(ratios: usize, slow: &[f64], fast: &[f64]) -> Option<Self> {
        let pairs: Vec<f64> = slow.iter().zip(fast).map(|(s, f)| s / f).collect();
        if pairs.is_empty() {
            return None;
        }
        let mut random = fastrand::Rng::with_seed(1);
        let mut medians: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let draw: Vec<f64> = (0..pairs.len())
                    .map(|_| pairs[random.usize(..pairs.len())])
                    .collect();
                median(&draw)
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        let outside = 0.05 / ratios as f64;
        let quantile = |part: f64| medians[((RESAMPLES - 1) as f64 * part).round() as usize];
        Some(Self {
            median: median(&pairs),
            low: quantile(outside / 2.0),
            high: quantile(1.0 - outside / 2.0),
        })
    }

    /// Whether the interval is wide, because the machine was noisy.
    pub fn is_noisy(&self) -> bool {
        (self.high - self.low) / 2.0 > NOISY * self.median
    }

    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

pub fn geometric_mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0);
    for value in values {
        sum += value.ln();
        count += 1;
    }
    (count > 0).then(|| (sum / f64::from(count)).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_constant_ratio_has_no_interval() {
        let ratio = Ratio::of_pairs(1, &[2.0, 4.0, 6.0], &[1.0, 2.0, 3.0]).unwrap();
        assert_eq!((ratio.low, ratio.median, ratio.high), (2.0, 2.0, 2.0));
        assert!(!ratio.is_noisy());
        assert_eq!(Ratio::of_pairs(1, &[], &[]), None);
    }

    /// Drift that affects both values of a pair does not change the ratio.
    #[test]
    fn what_slows_both_of_a_pair_does_not_count() {
        let fast: Vec<f64> = (0..20).map(|i| 1.0 + f64::from(i)).collect();
        let slow: Vec<f64> = fast.iter().map(|time| time * 1.5).collect();
        assert!(Ratio::of_pairs(1, &slow, &fast).unwrap().contains(1.5));
        assert!(!Ratio::of_pairs(1, &slow, &fast).unwrap().is_noisy());
    }

    /// The 95 % interval contains the true ratio in about 95 % of measurements.
    #[test]
    fn the_interval_has_the_truth_in_it() {
        let mut random = fastrand::Rng::with_seed(7);
        let noise = |random: &mut fastrand::Rng| 1.0 + 0.1 * (random.f64() + random.f64() - 1.0);
        let hits = (0..100)
            .filter(|_| {
                let slow: Vec<f64> = (0..15).map(|_| 2.0 * noise(&mut random)).collect();
                let fast: Vec<f64> = (0..15).map(|_| noise(&mut random)).collect();
                Ratio::of_pairs(1, &slow, &fast).unwrap().contains(2.0)
            })
            .count();
        assert!(hits >= 88, "{hits} of 100");
    }

    proptest! {
        #[test]
        fn the_median_lies_in_its_interval(times in prop::collection::vec((0.1..100.0f64, 0.1..100.0f64), 1..40)) {
            let (slow, fast): (Vec<f64>, Vec<f64>) = times.into_iter().unzip();
            let ratio = Ratio::of_pairs(1, &slow, &fast).unwrap();
            prop_assert!(ratio.low <= ratio.median && ratio.median <= ratio.high);
        }

        #[test]
        fn the_geometric_mean_of_ratios_and_of_their_inverses_agree(ratios in prop::collection::vec(0.1..10.0f64, 1..20)) {
            let mean = geometric_mean(ratios.iter().copied()).unwrap();
            let inverse = geometric_mean(ratios.iter().map(|ratio| 1.0 / ratio)).unwrap();
            prop_assert!((mean * inverse - 1.0).abs() < 1e-9);
        }
    }
}
