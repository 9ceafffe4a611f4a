//! What the policy of the connection's instance lets a request do: switches, root-only reading and session tokens, in this order.
//!
//! Promises: each request is counted once, however often it is looked at; with the default policy nothing is refused, and no
//! answer differs; a token that is issued leaves with the hop limit of the policy, and with no other.

use std::mem;

use hyper::header::{ALLOW, HeaderValue, USER_AGENT};

use super::access::Access;
use super::exchange::Exchange;
use super::session::{TTL, TokenUse};
use super::usage::Counted;
use super::{privileged, record, session, switches};
use crate::api::{Answer, Content, Denial, PLAIN, Status};
use crate::clock;
use crate::policy::{HOP_LIMIT, SessionMode};
use crate::secret;

/// What becomes of a request.
enum Decision {
    /// Its content is asked; it has a token with so many seconds left.
    Admit(Option<u64>),
    Deny(Denial),
    /// A token is issued for so many seconds, with this hop limit.
    Issue(u64, u8),
}

/// Looks at a request to this content. Returns the answer that ends it, which is `None` if none can be made now; `None`: its
/// content is asked.
pub(super) fn check<C: Access>(exchange: &mut Exchange<C>, content: &Content) -> Option<Option<Answer>> {
    let is_first = exchange.token_use().is_none();
    let (decision, token) = decide(exchange, content, is_first);
    exchange.set_token_use(token);
    match decision {
        Decision::Admit(left) => {
            if let Some(left) = left {
                exchange.add_header(TTL, left.into());
            }
            None
        }
        Decision::Deny(denial) => {
            if is_first {
                record::denied(&exchange.shared.terms.counters, denial, token);
            }
            if denial == Denial::TokenMethod {
                exchange.add_header(ALLOW, HeaderValue::from_static("PUT"));
            }
            Some(Some(denial.answer(&exchange.asked())))
        }
        Decision::Issue(seconds, hop_limit) => Some(issue(exchange, content, seconds, hop_limit)),
    }
}

fn decide<C: Access>(exchange: &Exchange<C>, content: &Content, is_first: bool) -> (Decision, TokenUse) {
    let (guest, instance) = (&exchange.shared.content, content.uuid());
    let (caller, about) = (guest.caller(), exchange.about());
    let access = caller.policy.with(&content.policy()).access;
    let usage = is_first.then(|| guest.usage(instance)).flatten();
    let count = |what| {
        if let Some(usage) = usage {
            usage.count(what);
        }
    };
    if let Some(denial) = switches::refuse(&access, &caller, about, || guest.user_data_read(instance), clock::unix) {
        return (Decision::Deny(denial), TokenUse::Off);
    }
    match privileged::judge(access.privileged, about.subject, caller.source_port) {
        privileged::Verdict::Privileged => {}
        privileged::Verdict::Unprotected => count(Counted::Unprivileged(about.subject)),
        privileged::Verdict::Refused => {
            count(Counted::RefusedUnprivileged);
            return (Decision::Deny(Denial::Unprivileged), TokenUse::Off);
        }
    }
    if access.session == SessionMode::Off {
        return (Decision::Admit(None), TokenUse::Off);
    }
    let open = |token: &[u8]| guest.open_token(token, clock::unix());
    let (verdict, token) = session::judge(access.session, about, exchange.method(), exchange.headers(), open);
    match token {
        TokenUse::Valid => count(Counted::WithToken),
        TokenUse::Refused(_) => count(Counted::RefusedToken),
        TokenUse::Absent => {
            if let Some(usage) = usage {
                let agent = exchange.headers().get(USER_AGENT).map_or(&b""[..], HeaderValue::as_bytes);
                usage.without_token(agent, clock::unix());
            }
        }
        TokenUse::Off | TokenUse::Wanted => {}
    }
    if is_first {
        record::session(&exchange.shared.terms.counters, token);
    }
    let decision = match verdict {
        session::Verdict::Pass(left) => Decision::Admit(left),
        session::Verdict::Issue(seconds) => Decision::Issue(seconds, access.hop_limit),
        session::Verdict::Refuse(denial) => Decision::Deny(denial),
    };
    (decision, token)
}

/// Answers with a token; `None`: none can be made now.
fn issue<C: Access>(exchange: &mut Exchange<C>, content: &Content, seconds: u64, hop_limit: u8) -> Option<Answer> {
    let shared = &exchange.shared;
    let mut token = shared.content.issue_token(clock::unix() + seconds)?;
    if hop_limit != HOP_LIMIT {
        shared.progress.limit_hops(hop_limit);
    }
    record::issued(&shared.terms.counters);
    if let Some(usage) = shared.content.usage(content.uuid()) {
        usage.count(Counted::Issued);
    }
    exchange.add_header(TTL, seconds.into());
    let body = secret::shared(mem::take(&mut *token));
    Some(Answer { status: Status::Ok, content_type: Some(PLAIN.into()), body })
}
