//! `metadatad wait`: until an instance can be answered, for whoever starts guests.
//!
//! Promises: it ends in bounded time, with an exit status of its own when that is over; it polls nothing. A daemon that is not
//! running is not waited for; one that restarts meanwhile is.

use std::io::Write;
use std::time::{Duration, Instant};

use super::error::CliError;
use super::{Form, converse_for, exit, print_json};
use crate::admin::client::{Client, ClientError};
use crate::admin::wait::{LONGEST, WaitFor};
use crate::admin::wire::Waited;
use crate::record::InstanceId;

/// Pause before a daemon that went away is asked again.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub(super) struct Verb {
    /// The instance
    #[arg(value_name = "UUID")]
    instance: InstanceId,

    /// Wait for this tap too, until it is there and bound to the instance. Without it, the taps that the instance's document names
    /// have to be bound as far as they are there
    #[arg(long, value_name = "TAP")]
    port: Option<String>,

    /// For how long: a whole number with ms, s or m, at most 10m
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    timeout: Duration,

    #[command(flatten)]
    form: Form,
}

impl Verb {
    pub(super) fn execute(&self, client: &Client, out: &mut dyn Write) -> Result<u8, CliError> {
        let waited = converse_for(&format!("instance {}", self.instance), self.wait(client))?;
        if self.form.json {
            print_json(&waited, out)?;
        }
        match waited.missing {
            None => Ok(exit::OK),
            Some(missing) => Err(CliError::NotReady { instance: waited.instance, timeout: self.timeout, missing }),
        }
    }

    async fn wait(&self, client: &Client) -> Result<Waited, CliError> {
        let (start, mut was_answered) = (Instant::now(), false);
        loop {
            let timeout = self.timeout.saturating_sub(start.elapsed());
            let asked = WaitFor { instance: self.instance.to_string(), port: self.port.clone(), timeout };
            match client.wait(&asked).await {
                Ok(waited) => return Ok(waited),
                Err(ClientError::Broken { .. }) if !timeout.is_zero() => was_answered = true,
                Err(ClientError::Unreachable { .. }) if was_answered && !timeout.is_zero() => {}
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(AGAIN.min(timeout)).await;
        }
    }
}

/// Reads a time.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err("write a whole number with ms, s or m, for example 5s".to_owned()),
    };
    let number = number.parse::<u64>().ok().and_then(|number| number.checked_mul(milliseconds));
    let time = number.map(Duration::from_millis).filter(|time| *time <= LONGEST);
    time.ok_or_else(|| format!("at most {} minutes can be waited", LONGEST.as_secs() / 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_in_the_configuration() {
        for (text, milliseconds) in [("5s", 5000), ("0s", 0), ("250ms", 250), ("10m", 600_000)] {
            assert_eq!(time(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1.5s", "11m", "5 s", "99999999999999999999s", "99999999999999999m"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
