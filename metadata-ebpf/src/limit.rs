//! How fast a port may send: token buckets, by the generic cell rate algorithm (ITU-T I.371).
//!
//! A bucket is one number: the time at which the next packet would be due if they came evenly. A packet that comes earlier
//! than that by more than the burst allows is refused, and changes nothing.
//!
//! Promises: in any time t no more than `burst` + `rate` · t are admitted, however many processors ask at once, as long as
//! the clock does not go backwards by more than it takes a packet to be looked at.
//!
//! Left out: fairness between a port's own guests' processes, and any limit of what is sent to the guest.

use core::sync::atomic::AtomicU64;
#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::Ordering;

use crate::abi::{Bucket, Limits};

/// How often a processor tries again when another has taken a token at the same time. After that the packet is refused: so
/// many tries fail only while others are admitted.
const ATTEMPTS: usize = 4;

const NANOSECONDS: u64 = 1_000_000_000;

impl Bucket {
    /// Everything is admitted.
    pub const UNLIMITED: Self = Self { interval: 0, tolerance: 0, due: 0 };

    /// Makes a full bucket of `burst` tokens (at least one), into which `per_second` fall each second; 0: no limit.
    #[must_use]
    pub const fn of(per_second: u32, burst: u32) -> Self {
        if per_second == 0 {
            return Self::UNLIMITED;
        }
        // Rounded up: rather a little less than was asked for.
        let interval = NANOSECONDS.div_ceil(per_second as u64);
        Self { interval, tolerance: (burst as u64).saturating_sub(1) * interval, due: 0 }
    }

    /// Tells whether there is a limit.
    #[inline(always)]
    #[must_use]
    pub const fn is_limited(&self) -> bool {
        self.interval != 0
    }

    /// Tells whether two buckets fill at the same rate and hold as much, however full they are.
    #[must_use]
    pub const fn is_of_same_limit(&self, other: &Self) -> bool {
        self.interval == other.interval && self.tolerance == other.tolerance
    }
}

impl Limits {
    /// Everything is admitted.
    pub const NONE: Self = Self { connections: Bucket::UNLIMITED, packets: Bucket::UNLIMITED };
}

/// Decides on one packet at the time `now`, of any clock in nanoseconds: returns the bucket's next due time if it is admitted.
#[inline(always)]
#[must_use]
pub const fn admit(now: u64, due: u64, interval: u64, tolerance: u64) -> Option<u64> {
    // Of the time until `due`, modulo 2⁶⁴: the upper half are times that have passed.
    let early = due.wrapping_sub(now);
    if early > u64::MAX / 2 {
        return Some(now.wrapping_add(interval));
    }
    if early > tolerance { None } else { Some(due.wrapping_add(interval)) }
}

/// Tells whether a packet would be admitted, without taking a token. A bucket without a limit (`interval` 0) always has one.
#[inline(always)]
#[must_use]
pub const fn has_token(now: u64, due: u64, interval: u64, tolerance: u64) -> bool {
    interval == 0 || admit(now, due, interval, tolerance).is_some()
}

/// Takes a token out of a bucket that several processors use; `false` if there is none.
#[inline(always)]
#[must_use]
pub fn take(due: &AtomicU64, interval: u64, tolerance: u64, now: u64) -> bool {
    let mut attempt = 0;
    while attempt < ATTEMPTS {
        let seen = load(due);
        let Some(next) = admit(now, seen, interval, tolerance) else {
            return false;
        };
        if exchange(due, seen, next) {
            return true;
        }
        attempt += 1;
    }
    false
}

#[cfg(not(target_arch = "bpf"))]
fn load(due: &AtomicU64) -> u64 {
    due.load(Ordering::Relaxed)
}

/// As above: one load of 8 aligned bytes, which the BPF target of some compilers cannot make of an atomic one.
#[cfg(target_arch = "bpf")]
#[inline(always)]
fn load(due: &AtomicU64) -> u64 {
    // SAFETY: a reference is readable.
    unsafe { due.as_ptr().read_volatile() }
}

/// Writes `next` if the value is still `seen`; `false` if it is not.
#[cfg(not(target_arch = "bpf"))]
fn exchange(due: &AtomicU64, seen: u64, next: u64) -> bool {
    due.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

/// As above. The compiler's BPF target has no such operation yet, but the kernel does. Minimum kernel version: 5.12.
#[cfg(target_arch = "bpf")]
#[inline(always)]
fn exchange(due: &AtomicU64, seen: u64, next: u64) -> bool {
    let found: u64;
    // SAFETY: 8 aligned bytes that may be written, as it is an `AtomicU64`; the instruction compares them with r0 and puts
    // what it found into r0.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({due} + 0, r0, {next})",
            due = in(reg) due.as_ptr(),
            next = in(reg) next,
            inlateout("r0") seen => found,
            options(nostack),
        );
    }
    found == seen
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// Returns the times at which packets were admitted, of those that come at `times`.
    fn admitted(bucket: Bucket, times: &[u64]) -> Vec<u64> {
        let due = AtomicU64::new(bucket.due);
        times.iter().copied().filter(|now| take(&due, bucket.interval, bucket.tolerance, *now)).collect()
    }

    #[test]
    fn a_burst_is_admitted_at_once_and_then_one_for_each_interval() {
        let bucket = Bucket::of(10, 3);
        assert_eq!((bucket.interval, bucket.tolerance), (100_000_000, 200_000_000));
        let start = 5_000_000_000;
        assert_eq!(admitted(bucket, &[start; 9]).len(), 3, "the clock stands");
        let times: Vec<u64> = (0..=100).map(|tick| start + tick * 10_000_000).collect();
        assert_eq!(admitted(bucket, &times).len(), 3 + 10, "a second later");
        // Idle for long: full again, and not more than full.
        let mut times = [start; 5].to_vec();
        times.extend([start * 100; 5]);
        assert_eq!(admitted(bucket, &times).len(), 6);
    }

    #[test]
    fn what_is_refused_takes_nothing() {
        let bucket = Bucket::of(1, 1);
        let mut times = [NANOSECONDS; 1000].to_vec();
        times.push(2 * NANOSECONDS);
        assert_eq!(admitted(bucket, &times), [NANOSECONDS, 2 * NANOSECONDS]);
    }

    #[test]
    fn rates_are_rounded_down_and_a_burst_is_at_least_one() {
        assert_eq!(Bucket::of(3, 1).interval, 333_333_334);
        assert_eq!(Bucket::of(1_000_000, 0), Bucket::of(1_000_000, 1));
        assert_eq!(Bucket::of(0, 7), Bucket::UNLIMITED);
        assert!(!Bucket::UNLIMITED.is_limited() && Bucket::of(u32::MAX, u32::MAX).is_limited());
    }

    #[test]
    fn the_clock_may_wrap() {
        let bucket = Bucket::of(10, 2);
        let start = u64::MAX - 150_000_000;
        let times: Vec<u64> = (0..=10).map(|tick| start.wrapping_add(tick * 100_000_000)).collect();
        let due = AtomicU64::new(start);
        let count = times.iter().filter(|now| take(&due, bucket.interval, bucket.tolerance, **now)).count();
        assert_eq!(count, 11);
        assert_eq!(admit(5, u64::MAX, 10, 0), Some(15), "due before the wrap, asked after it");
        assert_eq!(admit(u64::MAX, 5, 10, 5), None, "due after the wrap, too early before it");
        assert_eq!(admit(u64::MAX, 5, 10, 6), Some(15), "within the burst");
    }

    #[test]
    fn processors_that_ask_at_once_get_no_more_than_one_would() {
        let bucket = Bucket::of(1, 1000);
        let due = AtomicU64::new(0);
        let ask = || (0..20_000).filter(|_| take(&due, bucket.interval, bucket.tolerance, NANOSECONDS)).count();
        let total: usize = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            asking.into_iter().map(|thread| thread.join().expect("a count")).sum()
        });
        assert_eq!(total, 1000);
    }

    proptest! {
        /// Between any two packets that were admitted, and so in any time at all.
        #[test]
        fn never_more_than_burst_and_rate_allow(
            per_second in 1u32..2_000_000, burst in 1u32..50, start in any::<u64>(),
            steps in proptest::collection::vec(prop_oneof![Just(0u64), 0u64..3_000, 0u64..400_000_000], 1..300)
        ) {
            let bucket = Bucket { due: start, ..Bucket::of(per_second, burst) };
            let mut now = start;
            let mut times = Vec::new();
            for step in steps {
                now = now.wrapping_add(step);
                times.push(now);
            }
            let admitted = admitted(bucket, &times);
            for (first, from) in admitted.iter().enumerate() {
                for (last, to) in admitted.iter().enumerate().skip(first) {
                    let count = u128::try_from(last - first + 1).expect("fits");
                    let time = u128::from(to.wrapping_sub(*from));
                    let most = u128::from(burst) + time * u128::from(per_second) / u128::from(NANOSECONDS);
                    prop_assert!(count <= most, "{count} in {time} ns, {most} allowed");
                }
            }
        }

        /// A guest that keeps to its rate loses nothing.
        #[test]
        fn whoever_keeps_to_the_rate_is_admitted(per_second in 1u32..2_000_000, burst in 1u32..50, count in 1usize..200) {
            let bucket = Bucket::of(per_second, burst);
            let times: Vec<u64> = (0..count as u64).map(|tick| NANOSECONDS + tick * bucket.interval).collect();
            prop_assert_eq!(admitted(bucket, &times).len(), count);
        }
    }
}
