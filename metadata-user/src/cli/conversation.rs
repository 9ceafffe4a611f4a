//! Conversations with the daemon and the kernel, each on a runtime of its own.
//!
//! Promises: a conversation that takes longer than a second shows on the terminal, by standard error, what it waits for, and erases that
//! at the end; where standard error is not a terminal, nothing is added to the output.

use std::io::{self, IsTerminal as _, Write};
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, interval_at};

use super::error::CliError;

/// After how long a command shows what it waits for, and how often it updates the time.
const STEP: Duration = Duration::from_secs(1);

/// Moves to the start of the line and erases it.
const ERASE: &str = "\r\x1b[K";

/// Runs one conversation with the daemon.
pub(super) fn converse<T>(conversation: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    converse_for("the daemon's answer", conversation)
}

/// As [`converse`], for an answer that comes when `what` is ready.
pub(super) fn converse_for<T>(
    what: &str,
    conversation: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    let mut terminal = io::stderr();
    let has_terminal = terminal.is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
    converse_silently(async {
        if has_terminal { with_progress(what, &mut terminal, conversation).await } else { conversation.await }
    })
}

/// As [`converse`], for a command that has the terminal for itself.
pub(super) fn converse_silently<T>(conversation: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    runtime.block_on(conversation)
}

async fn with_progress<T>(what: &str, terminal: &mut dyn Write, conversation: impl Future<Output = T>) -> T {
    let mut conversation = pin!(conversation);
    let start = Instant::now();
    let mut ticks = interval_at(start + STEP, STEP);
    let mut is_shown = false;
    // What a terminal does not take is lost, and nothing depends on it.
    let mut show = |text: &str| drop(terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush()));
    loop {
        tokio::select! {
            biased;
            value = &mut conversation => {
                if is_shown {
                    show(ERASE);
                }
                return value;
            }
            _ = ticks.tick() => {
                show(&format!("{ERASE}waiting for {what}: {} s", start.elapsed().as_secs()));
                is_shown = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shown_in(time: Duration) -> String {
        let mut terminal = Vec::new();
        let value = with_progress("the tap", &mut terminal, async {
            tokio::time::sleep(time).await;
            7
        });
        assert_eq!(value.await, 7);
        String::from_utf8(terminal).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_less_than_a_second_shows_nothing() {
        assert_eq!(shown_in(Duration::from_millis(900)).await, "");
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_longer_is_shown_each_second_and_erased_at_the_end() {
        let shown = shown_in(Duration::from_millis(2500)).await;
        assert_eq!(shown, "\r\x1b[Kwaiting for the tap: 1 s\r\x1b[Kwaiting for the tap: 2 s\r\x1b[K");
    }
}
