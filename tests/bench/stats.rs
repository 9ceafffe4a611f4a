//! Median and quartiles of a few measurements.

/// The middle of some measurements, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// A quarter of them is below.
    pub(crate) low: f64,
    /// Half of them is below.
    pub(crate) median: f64,
    /// A quarter of them is above.
    pub(crate) high: f64,
}

impl Spread {
    /// Takes them in any order; of none, everything is NaN.
    pub(crate) fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self { low: quantile(&sorted, 0.25), median: quantile(&sorted, 0.5), high: quantile(&sorted, 0.75) }
    }
}

/// Between two neighbours, the value lies on the line that joins them.
fn quantile(sorted: &[f64], at: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = at * last as f64;
    let below = place.floor();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the list")]
    let index = below as usize;
    let next = sorted[(index + 1).min(last)];
    sorted[index] + (next - sorted[index]) * (place - below)
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn quartiles_lie_between_neighbours() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Spread { low: 1.5, median: 2.0, high: 2.5 });
        assert_eq!(Spread::of(&[4.0]), Spread { low: 4.0, median: 4.0, high: 4.0 });
        assert!(Spread::of(&[]).median.is_nan());
    }
}
