//! Session tokens: bytes into `secret::token`.
//!
//! An input is the time, changes of a token that was issued (pairs of a place and what to flip there), and a text that is
//! presented as it is.
//!
//! Checked: only what was issued opens, byte for byte, for whom it was issued, until it expires.

use std::sync::LazyLock;

use metadata_user::secret::Secret;
use metadata_user::secret::token::{LENGTH, TokenError, TokenKey};

use crate::input::Input;

static KEY: LazyLock<TokenKey> = LazyLock::new(|| TokenKey::derive(&Secret::new(vec![7; 32])));
static OTHER: LazyLock<TokenKey> = LazyLock::new(|| TokenKey::derive(&Secret::new(vec![8; 32])));

const HOLDER: &[u8] = b"instance, tag and port";

/// Runs an input.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (expires, now) = (u64::from_be_bytes(input.array()), u64::from_be_bytes(input.array()));
    let token = KEY.issue(HOLDER, expires).expect("random bytes");
    assert!(token.len() == LENGTH && token.iter().all(|byte| byte.is_ascii_graphic()));
    let expected = if expires > now { Ok(expires - now) } else { Err(TokenError::Expired) };
    assert_eq!(KEY.open(&token, HOLDER, now), expected);
    assert_eq!(OTHER.open(&token, HOLDER, now), Err(TokenError::Foreign));

    let mut changed = token.to_vec();
    for pair in input.counted().chunks_exact(2) {
        let place = usize::from(pair[0]) % changed.len();
        changed[place] ^= pair[1];
    }
    if changed != *token {
        assert!(KEY.open(&changed, HOLDER, 0).is_err(), "a changed token opens");
    }
    let holder = input.counted();
    if holder != HOLDER {
        assert_eq!(KEY.open(&token, holder, 0), Err(TokenError::Foreign));
    }
    // Nobody but the key's owner makes one: random bytes in it are not those of this run.
    let text = input.rest();
    assert!(KEY.open(text, HOLDER, now).is_err() && OTHER.open(text, holder, now).is_err());
}
