//! Reads of all keys below a prefix, page by page.

use etcd_client::{Client, GetOptions, KeyValue};

use super::election::Term;
use super::transaction::SendError;
use crate::source::etcd::cluster::{LARGEST_ANSWER, after};

/// Keys in the first page. The size of later pages is chosen to come to about [`PAGE`].
const FIRST_PAGE: i64 = 64;
const MOST_IN_PAGE: i64 = 4000;
/// Target size of a page, in bytes. Far below what delays other users of the member.
const PAGE: usize = 2 << 20;

/// Reads all keys below a prefix at one revision, while the term lasts; without their values if only the keys are wanted. Returns the
/// revision.
///
/// # Errors
/// [`SendError`].
pub(super) async fn read_all(
    term: &Term,
    prefix: &str,
    keys_only: bool,
    each: impl FnMut(&KeyValue),
) -> Result<i64, SendError> {
    let lost = term.lost();
    tokio::select! {
        biased;
        lost = lost => Err(lost.into()),
        read = read_while_it_lasts(term, prefix, keys_only, each) => read,
    }
}

async fn read_while_it_lasts(
    term: &Term,
    prefix: &str,
    keys_only: bool,
    mut each: impl FnMut(&KeyValue),
) -> Result<i64, SendError> {
    let cluster = term.cluster();
    let (mut start, mut revision) = (prefix.as_bytes().to_vec(), 0);
    let mut limit = if keys_only { MOST_IN_PAGE } else { FIRST_PAGE };
    loop {
        let mut options = GetOptions::new().with_range(after(prefix)).with_limit(limit).with_revision(revision);
        if keys_only {
            options = options.with_keys_only();
        }
        let ask = |client: Client| {
            let (start, options) = (start.clone(), options.clone());
            let mut kv = client.kv_client().max_decoding_message_size(LARGEST_ANSWER);
            async move { kv.get(start, Some(options)).await }
        };
        let mut page = match cluster.request(cluster.limit(), ask).await {
            Ok(page) => page,
            Err(error) if error.is_too_large() && limit > 1 => {
                limit = (limit / 4).max(1);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if revision == 0 {
            revision = page.header().map_or(0, |header| header.revision());
        }
        let more = page.more();
        let mut bytes = 0;
        for pair in page.take_kvs() {
            bytes += pair.value().len();
            each(&pair);
            start = [pair.key(), &[0]].concat();
        }
        if !more {
            return Ok(revision);
        }
        if !keys_only {
            limit = match bytes {
                bytes if bytes > PAGE => (limit / 2).max(1),
                bytes if bytes < PAGE / 2 => (limit * 2).min(MOST_IN_PAGE),
                _ => limit,
            };
        }
    }
}
