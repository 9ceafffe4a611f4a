//! Where a value lies on an axis, and which values are named there.

use super::number;

/// How values lie on an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From zero, evenly.
    Linear,
    /// The same factor is the same length.
    Log,
    /// Shares of a whole: 0.99 is as far from 0.9 as that from 0, so that what is rare can be seen.
    Percentile,
}

/// The part of an axis that is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Range {
    /// Takes a range that holds all values, from tick to tick.
    pub(super) fn of(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let usable = values.filter(|value| value.is_finite() && (scale != Scale::Log || *value > 0.0));
        let (low, high) = usable.fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), v| (low.min(v), high.max(v)));
        match scale {
            Scale::Percentile => Self { scale, low: 0.0, high: high.clamp(0.9, 0.99999) },
            _ if !low.is_finite() || high <= 0.0 => Self { scale, low: 1.0, high: 10.0 },
            Scale::Linear => Self { scale, low: 0.0, high: high * 1.02 },
            Scale::Log => {
                let (low, high) = (step_below(low), step_above(high));
                Self { scale, low, high: if high > low { high } else { low * 10.0 } }
            }
        }
    }

    /// Returns where a value lies: 0 at the low end, 1 at the high one.
    pub(super) fn place(&self, value: f64) -> f64 {
        let on = |value: f64| match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(self.low).log10(),
            Scale::Percentile => -(1.0 - value.min(self.high)).log10(),
        };
        (on(value) - on(self.low)) / (on(self.high) - on(self.low))
    }

    /// Returns the values that are named, with their names.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Percentile => {
                let all =
                    [(0.0, "0"), (0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %")];
                all.iter().filter(|(at, _)| *at <= self.high).map(|(at, name)| (*at, (*name).to_owned())).collect()
            }
            Scale::Linear => {
                let step = [1.0, 2.0, 5.0, 10.0, 20.0].iter().map(|step| step * power(self.high / 10.0));
                let step = step.clone().find(|step| self.high / step <= 7.0).unwrap_or(self.high);
                (0..).map(|count| f64::from(count) * step).take_while(|value| *value <= self.high).map(named).collect()
            }
            Scale::Log => {
                let decades = (self.high / self.low).log10();
                let steps: &[f64] = if decades <= 3.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let mut ticks = Vec::new();
                let mut decade = power(self.low);
                while decade <= self.high * 1.001 {
                    ticks.extend(steps.iter().map(|step| step * decade));
                    decade *= 10.0;
                }
                ticks.retain(|value| (self.low * 0.999..=self.high * 1.001).contains(value));
                ticks.into_iter().map(named).collect()
            }
        }
    }
}

fn named(value: f64) -> (f64, String) {
    (value, number(value))
}

/// Returns the power of ten at or below a value.
fn power(value: f64) -> f64 {
    10f64.powf((value.log10() + 1e-9).floor())
}

fn step_below(value: f64) -> f64 {
    let decade = power(value);
    [5.0, 2.0, 1.0].iter().map(|step| step * decade).find(|step| *step <= value * 1.000_001).unwrap_or(decade)
}

fn step_above(value: f64) -> f64 {
    let decade = power(value);
    [1.0, 2.0, 5.0, 10.0]
        .iter()
        .map(|step| step * decade)
        .find(|step| *step * 1.000_001 >= value)
        .unwrap_or(decade * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(scale: Scale, values: &[f64]) -> Vec<String> {
        Range::of(scale, values.iter().copied()).ticks().into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(names(Scale::Log, &[23.0, 180.0]), ["20", "50", "100", "200"]);
        assert_eq!(names(Scale::Log, &[1.0, 64.0]), ["1", "2", "5", "10", "20", "50", "100"]);
        assert_eq!(names(Scale::Log, &[3.0, 200_000.0]), ["10", "100", "1,000", "10,000", "100,000"]);
        assert_eq!(names(Scale::Linear, &[0.3, 3.2]), ["0", "0.5", "1", "1.5", "2", "2.5", "3"]);
        assert_eq!(names(Scale::Linear, &[1000.0]), ["0", "200", "400", "600", "800", "1,000"]);
        assert_eq!(names(Scale::Linear, &[8723.0]), ["0", "2,000", "4,000", "6,000", "8,000"]);
        assert_eq!(names(Scale::Percentile, &[0.0, 0.999]), ["0", "50 %", "90 %", "99 %", "99.9 %"]);
    }

    #[test]
    fn ends_are_at_the_ends_and_nothing_is_no_number() {
        for (scale, values) in [(Scale::Log, &[20.0, 200.0][..]), (Scale::Linear, &[0.0, 1.0]), (Scale::Log, &[])] {
            let range = Range::of(scale, values.iter().copied());
            assert!(range.place(range.low).abs() < 1e-9 && (range.place(range.high) - 1.0).abs() < 1e-9);
        }
        assert!((Range::of(Scale::Percentile, [0.99].into_iter()).place(0.9) - 0.5).abs() < 1e-6);
        assert!(Range::of(Scale::Log, [0.0].into_iter()).place(0.0).is_finite());
        assert_eq!(names(Scale::Log, &[5.0]).len(), 4);
    }
}
